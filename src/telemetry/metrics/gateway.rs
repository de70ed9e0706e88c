//! The gateway's families.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct JsonApiError {
    pub http_status: u16,
    pub error_code: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct RateLimitHit {
    pub endpoint: RateLimitEndpoint,
    pub scope: RateLimitScope,
}

label_value! {
    /// The endpoints that are limited.
    RateLimitEndpoint { Lifecycle = "lifecycle", Websocket = "websocket", SignIn = "sign_in", BackchannelLogout = "backchannel_logout", }
}

label_value! {
    /// Whose limit was met: everyone's together, one user's, or one client address'.
    RateLimitScope { Global = "global", User = "user", Address = "address", }
}

impl RateLimitScope {
    /// Whether an endpoint has such a limit.
    fn is_of(self, endpoint: RateLimitEndpoint) -> bool {
        let by_address = matches!(
            endpoint,
            RateLimitEndpoint::SignIn | RateLimitEndpoint::BackchannelLogout
        );
        (self == Self::Address) == by_address
    }
}

label_value! {
    /// Why something is refused before anyone asks who it is; and, of terminals, because there are too many.
    RefusalReason {
        TooManyConnections = "too_many_connections",
        TooManyTerminals = "too_many_terminals",
        TooManyTerminalsOfUser = "too_many_terminals_of_user",
        Handshake = "tls_handshake",
        MalformedHead = "malformed_head",
        LargeHead = "large_head",
        SlowHead = "slow_head",
        SlowReader = "slow_reader",
        Target = "target",
        LargeBody = "large_body",
        SlowBody = "slow_body",
        MalformedBody = "malformed_body",
    }
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct Refusal {
    pub reason: RefusalReason,
}

label_value! {
    /// Who has sent it.
    Direction { FromClient = "from_client", FromWorkspace = "from_workspace", }
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct TerminalBytes {
    pub direction: Direction,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct TerminalClose {
    /// A fixed word.
    pub reason: &'static str,
}

label_value! {
    /// What the provider said of a session.
    RefreshOutcome { Confirmed = "confirmed", Refused = "refused", Unavailable = "unavailable", }
}

label_value! {
    /// What became of a logout token.
    LogoutOutcome { Revoked = "revoked", Unknown = "unknown", Invalid = "invalid", Failed = "failed", }
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct SessionRefresh {
    pub outcome: RefreshOutcome,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct BackchannelLogout {
    pub outcome: LogoutOutcome,
}

label_value! {
    /// What recordings lack: of one session the first four, else of all that is kept.
    RecordingFault {
        OpenFailed = "open_failed",
        WriteFailed = "write_failed",
        QueueFull = "queue_full",
        Stalled = "stalled",
        Ledger = "ledger",
        Checkpoint = "checkpoint",
        Manifest = "manifest",
        Compression = "compression",
        Retention = "retention",
    }
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct RecordingFailure {
    pub reason: RecordingFault,
}

/// The gateway's families.
pub struct GatewayMetrics {
    pub(super) registry: Registry,
    pub json_api_errors: Family<JsonApiError, Counter>,
    pub rate_limit_hits: Family<RateLimitHit, Counter>,
    pub session_refreshes: Family<SessionRefresh, Counter>,
    pub backchannel_logouts: Family<BackchannelLogout, Counter>,
    /// Terminals open now.
    pub open_sessions: Gauge,
    pub recording_failures: Family<RecordingFailure, Counter>,
    pub refusals: Family<Refusal, Counter>,
    pub terminal_bytes: Family<TerminalBytes, Counter>,
    /// From a request until the terminal shows something.
    pub terminal_first_byte: Histogram,
    pub terminal_closes: Family<TerminalClose, Counter>,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("devplane");
        let json_api_errors = Family::default();
        registry.register("gateway_json_api_errors", "JSON error answers", json_api_errors.clone());
        let rate_limit_hits = Family::default();
        for &endpoint in RateLimitEndpoint::ALL {
            for &scope in RateLimitScope::ALL.iter().filter(|scope| scope.is_of(endpoint)) {
                drop(rate_limit_hits.get_or_create(&RateLimitHit { endpoint, scope }));
            }
        }
        registry.register(
            "gateway_rate_limit_hits",
            "Requests refused by a rate limit",
            rate_limit_hits.clone(),
        );
        let session_refreshes = Family::default();
        for &outcome in RefreshOutcome::ALL {
            drop(session_refreshes.get_or_create(&SessionRefresh { outcome }));
        }
        registry.register(
            "gateway_session_refreshes",
            "Questions to the identity provider whether a session still stands",
            session_refreshes.clone(),
        );
        let backchannel_logouts = Family::default();
        for &outcome in LogoutOutcome::ALL {
            drop(backchannel_logouts.get_or_create(&BackchannelLogout { outcome }));
        }
        registry.register(
            "gateway_backchannel_logouts",
            "Logout tokens of the identity provider",
            backchannel_logouts.clone(),
        );
        let open_sessions = Gauge::default();
        registry.register(
            "gateway_open_sessions",
            "Terminals that are open",
            open_sessions.clone(),
        );
        let recording_failures = Family::<RecordingFailure, Counter>::default();
        for &reason in RecordingFault::ALL {
            drop(recording_failures.get_or_create(&RecordingFailure { reason }));
        }
        registry.register(
            "gateway_recording_failures",
            "Sessions that are not recorded, and what else recordings lack",
            recording_failures.clone(),
        );
        let refusals = Family::<Refusal, Counter>::default();
        for &reason in RefusalReason::ALL {
            drop(refusals.get_or_create(&Refusal { reason }));
        }
        registry.register(
            "gateway_refusals",
            "Connections, requests and terminals refused for what they are or how many there are",
            refusals.clone(),
        );
        let terminal_bytes = Family::<TerminalBytes, Counter>::default();
        for &direction in Direction::ALL {
            drop(terminal_bytes.get_or_create(&TerminalBytes { direction }));
        }
        registry.register_with_unit(
            "gateway_terminal",
            "What terminals have received of each side, frames as they came",
            Unit::Bytes,
            terminal_bytes.clone(),
        );
        let terminal_first_byte = Histogram::new(exponential_buckets(0.001, 2.0, 14));
        registry.register_with_unit(
            "gateway_terminal_first_byte",
            "Time from the request for a terminal until it shows something",
            Unit::Seconds,
            terminal_first_byte.clone(),
        );
        let terminal_closes = Family::<TerminalClose, Counter>::default();
        registry.register(
            "gateway_terminal_closes",
            "Terminals that were closed",
            terminal_closes.clone(),
        );
        Self {
            registry,
            json_api_errors,
            rate_limit_hits,
            session_refreshes,
            backchannel_logouts,
            open_sessions,
            recording_failures,
            refusals,
            terminal_bytes,
            terminal_first_byte,
            terminal_closes,
        }
    }
}

impl GatewayMetrics {
    pub fn refused(&self, reason: RefusalReason) {
        self.refusals.get_or_create(&Refusal { reason }).inc();
    }

    /// Counts bytes without a lock: the counter is looked up once.
    pub fn received(&self, direction: Direction) -> impl Fn(u64) + Send + Sync + use<> {
        let counter = self.terminal_bytes.get_or_create(&TerminalBytes { direction }).clone();
        move |bytes| {
            counter.inc_by(bytes);
        }
    }

    pub fn encode(&self) -> String {
        super::encoded(&self.registry)
    }
}
