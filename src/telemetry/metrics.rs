//! Counts and sizes become OpenMetrics text: every family that DevPlane exposes is declared here.
//!
//! Labels are bounded sets of words, never a user, an object's name or an address. The text format's encoder appends
//! `_total` to counters, so the names here leave it out.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The media type of what [`OperatorMetrics::encode`] and [`GatewayMetrics::encode`] return.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct PhaseTransition {
    /// `None` when the Workspace had no phase.
    pub from_phase: &'static str,
    pub to_phase: &'static str,
}

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

macro_rules! label_value {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($variant,)+ }

        impl $name {
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl prometheus_client::encoding::EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                prometheus_client::encoding::EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

label_value! {
    /// The endpoints that are limited.
    RateLimitEndpoint { Lifecycle = "lifecycle", Websocket = "websocket", }
}

label_value! {
    /// Whose limit was met: everyone's together, or one user's.
    RateLimitScope { Global = "global", User = "user", }
}

/// The operator's families.
pub struct OperatorMetrics {
    registry: Registry,
    pub phase_transitions: Family<PhaseTransition, Counter>,
    pub status_patch_failures: Counter,
    /// 1 while this process holds the Lease, or needs none.
    pub leader: Gauge,
}

impl Default for OperatorMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("devplane");
        let phase_transitions = Family::default();
        registry.register(
            "workspace_phase_transitions",
            "Changes of a Workspace's phase",
            phase_transitions.clone(),
        );
        let status_patch_failures = Counter::default();
        registry.register(
            "workspace_status_patch_failures",
            "Writes of a Workspace's status that failed",
            status_patch_failures.clone(),
        );
        let leader = Gauge::default();
        registry.register("operator_leader", "1 while this replica does the work", leader.clone());
        Self {
            registry,
            phase_transitions,
            status_patch_failures,
            leader,
        }
    }
}

impl OperatorMetrics {
    pub fn encode(&self) -> String {
        encoded(&self.registry)
    }
}

/// The gateway's families.
pub struct GatewayMetrics {
    registry: Registry,
    pub json_api_errors: Family<JsonApiError, Counter>,
    pub rate_limit_hits: Family<RateLimitHit, Counter>,
    /// Terminals open now.
    pub open_sessions: Gauge,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("devplane");
        let json_api_errors = Family::default();
        registry.register("gateway_json_api_errors", "JSON error answers", json_api_errors.clone());
        let rate_limit_hits = Family::default();
        registry.register(
            "gateway_rate_limit_hits",
            "Requests refused by a rate limit",
            rate_limit_hits.clone(),
        );
        let open_sessions = Gauge::default();
        registry.register(
            "gateway_open_sessions",
            "Terminals that are open",
            open_sessions.clone(),
        );
        Self {
            registry,
            json_api_errors,
            rate_limit_hits,
            open_sessions,
        }
    }
}

impl GatewayMetrics {
    pub fn encode(&self) -> String {
        encoded(&self.registry)
    }
}

fn encoded(registry: &Registry) -> String {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => text,
        // Writing to a String can't fail; an encoder's own bug must not stop the program.
        Err(std::fmt::Error) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_dashboards_rely_on() {
        let operator = OperatorMetrics::default();
        operator
            .phase_transitions
            .get_or_create(&PhaseTransition {
                from_phase: "None",
                to_phase: "Pending",
            })
            .inc();
        let text = operator.encode();
        assert!(
            text.contains(r#"devplane_workspace_phase_transitions_total{from_phase="None",to_phase="Pending"} 1"#),
            "{text}"
        );
        assert!(
            text.contains("devplane_workspace_status_patch_failures_total 0"),
            "{text}"
        );

        let gateway = GatewayMetrics::default();
        gateway
            .json_api_errors
            .get_or_create(&JsonApiError {
                http_status: 401,
                error_code: "unauthorized",
            })
            .inc();
        let hit = RateLimitHit {
            endpoint: RateLimitEndpoint::Websocket,
            scope: RateLimitScope::User,
        };
        gateway.rate_limit_hits.get_or_create(&hit).inc();
        let text = gateway.encode();
        assert!(
            text.contains(r#"devplane_gateway_json_api_errors_total{http_status="401",error_code="unauthorized"} 1"#),
            "{text}"
        );
        assert!(
            text.contains(r#"devplane_gateway_rate_limit_hits_total{endpoint="websocket",scope="user"} 1"#),
            "{text}"
        );
    }
}
