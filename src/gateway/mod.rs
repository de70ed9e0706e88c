//! Browsers become users at their terminals.
//!
//! `request -> request id -> route -> authenticate -> same origin -> rate limit -> ensure the owner's Workspace -> page, events
//! or terminal -> headers, log, audit`.
//!
//! `service` takes a request to its handler: `sign_in`, `home`, `events`, `terminal`, which reaches the workspace through `terminal_tls`. `admission` has the rules in between, in
//! their order; `reject` turns each refusal into an answer, `limits` and `places` say how often and how many at once. `route`,
//! `return_path`, `origin`, `client_address`, `index`, `progress` and `standing` are pure.
//!
//! `cookie -> session -> standing (lifetimes, revocations) -> refresh, when that is due -> caller`. `sign_ins` is what gateways tell
//! each other of sessions through the Workspace, `departures` what outlives it, `refresh` asks the provider once for all of them, and `vigil` does the same for
//! what stays open.

mod admission;
mod assets;
mod authn;
mod backchannel;
pub mod client_address;
mod departures;
mod events;
mod handshake;
mod home;
pub mod index;
mod keep_alive;
pub mod limits;
pub mod origin;
mod pages;
mod places;
mod presence;
pub mod progress;
mod recording;
mod refresh;
mod reject;
mod requests;
mod respond;
pub mod return_path;
pub mod route;
mod service;
pub mod session;
pub mod session_keys;
mod sign_in;
mod sign_ins;
pub mod standing;
mod terminal;
mod terminal_tls;
mod vigil;
mod wishes;
pub mod workspaces;

use crate::audit::{self, Actor, Component, Event};
use crate::clock::Clock;
use crate::config::GatewayConfig;
use crate::oidc::Provider;
use crate::proxy::End;
use crate::serve::drain::Drain;
use crate::serve::listener::{self, Bounds, ListenError, Peer, Refused};
use crate::serve::probes::{self, Page};
use crate::serve::shutdown;
use crate::telemetry::metrics::{GatewayMetrics, RefusalReason, TerminalClose};
use crate::telemetry::request_id::RequestId;
use crate::tls::{ServerCertificate, TlsError, Trust};
use backchannel::Seen;
use cookie::Key;
use futures::FutureExt;
use hyper::HeaderMap;
use kube::Client;
use limits::Limits;
use places::Terminals;
use presence::Presence;
use recording::{RecordingError, SessionRecording};
use service::Gateway;
use session::Cookies;
use session_keys::KeysError;
use snafu::{ResultExt, Snafu};
use std::convert::Infallible;
use std::net::Ipv6Addr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use terminal_tls::TerminalTls;
use workspaces::Workspaces;

/// For what was told to end when the time to drain was over, as it takes to say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Refusals for want of a place that are audited: one in this time, however many there are.
const AUDITED_EVERY: Duration = Duration::from_secs(1);
/// While the API server does not answer at the start: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why the gateway ended before it was told to.
#[derive(Debug, Snafu)]
pub enum GatewayError {
    #[snafu(display("{source}"))]
    Tls { source: TlsError },
    #[snafu(display("{source}"))]
    Listen { source: ListenError },
    #[snafu(display("{source}"))]
    Keys { source: KeysError },
    #[snafu(display("can't record sessions: {source}"))]
    Recording { source: RecordingError },
    #[snafu(display("the watch of Workspaces ended"))]
    WatchEnded,
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When a file of its settings can't be used, the port is taken, or the session keys are not usable.
pub async fn run(config: GatewayConfig, client: Client, clock: Arc<dyn Clock>) -> Result<(), GatewayError> {
    audit::emit(&Event::ConfigLoaded {
        component: Component::Gateway,
        config_hash: &config.digest,
        version: env!("CARGO_PKG_VERSION"),
    });
    let stop = shutdown::signal();
    tokio::pin!(stop);
    let trust = Trust::read(config.ca_bundle.as_deref()).context(TlsSnafu)?;
    let trusted = trust.client().context(TlsSnafu)?;
    let certificate = config.tls.as_ref();
    let certificate = certificate.map(|files| ServerCertificate::read(&files.certificate, &files.key));
    let certificate = certificate.transpose().context(TlsSnafu)?;
    let server = certificate.as_ref().map(ServerCertificate::server);
    let server = server.transpose().context(TlsSnafu)?.map(Arc::new);
    let everywhere = (Ipv6Addr::UNSPECIFIED, config.port).into();
    let listener = listener::listen(everywhere).await.context(ListenSnafu)?;
    // A gateway that takes no more connections is alive, and must not be killed with the terminals that it has.
    let _probes = match config.probe_port {
        Some(port) => Some(
            probes::serve((Ipv6Addr::UNSPECIFIED, port).into(), alive)
                .await
                .context(ListenSnafu)?,
        ),
        None => None,
    };
    let keys = tokio::select! {
        keys = session_keys(&client, &config.pod_namespace) => keys.context(KeysSnafu)?,
        () = &mut stop => return Ok(()),
    };
    let metrics = GatewayMetrics::default();
    for reason in End::reasons() {
        drop(metrics.terminal_closes.get_or_create(&TerminalClose { reason }));
    }
    let recording = SessionRecording::start(config.recording, &config.pod_name, &metrics, Arc::clone(&clock));
    let following = client.clone();
    let gateway = Arc::new(Gateway {
        provider: Provider::new(config.oidc, trusted, Arc::clone(&clock)),
        cookies: Cookies::new(keys),
        logouts_seen: Seen::default(),
        workspaces: Workspaces::new(
            client,
            config.namespace,
            config.pod_name,
            config.workspace,
            config.session,
            Arc::clone(&clock),
        ),
        presence: Presence::default(),
        limits: Limits::new(&config.rate_limit),
        terminals: Terminals::new(&config.places),
        streams: Terminals::new(&events::PLACES),
        terminal_tls: TerminalTls::default(),
        edge: config.edge,
        clipboard: config.clipboard,
        metrics,
        recording: recording.context(RecordingSnafu)?,
        session_rules: config.session,
        clock,
        drain: Drain::default(),
        public_origin: config.public_url.origin().ascii_serialization(),
        public_url: config.public_url,
        post_logout_url: config.post_logout_url,
        support_contact: config.support_contact,
    });
    tracing::info!(
        port = config.port,
        https = server.is_some(),
        public_url = gateway.public_url.as_str(),
        namespace = gateway.workspaces.namespace,
        "the gateway serves"
    );
    let starting = Arc::clone(&gateway);
    gateway.drain.spawn(async move {
        tokio::select! {
            () = presence::forget_earlier(&starting) => {}
            () = starting.drain.stopping() => {}
        }
    });
    gateway.drain.spawn(keep_alive::take_over(Arc::clone(&gateway)));
    let answering = Arc::clone(&gateway);
    let answer = move |request| Arc::clone(&answering).answer(request);
    let refusing = Arc::clone(&gateway);
    let last_audited = Mutex::new(None);
    let bounds = Bounds {
        timeout: gateway.edge.request_timeout,
        connections: config.places.connections,
        refused: Arc::new(move |refused, peer| refusing.refused(refused, peer, &last_audited)),
    };
    let serving = listener::serve(listener, server, bounds, &gateway.drain, answer);
    let background = async {
        tokio::select! {
            () = gateway.workspaces.watch() => WatchEndedSnafu.fail(),
            () = gateway.provider.follow() => Ok(()),
            () = session_keys::follow(&following, &config.pod_namespace, &gateway.cookies) => Ok(()),
            () = terminal_certificate(&gateway, &following, &config.pod_namespace) => Ok(()),
            () = gateway.limits.forget() => Ok(()),
            () = follow(certificate.as_deref()) => Ok(()),
            () = trust.follow() => Ok(()),
        }
    };
    let mut background = pin!(background.fuse());
    let result = tokio::select! {
        () = serving => Ok(()),
        result = &mut background => result,
        () = &mut stop => Ok(()),
    };
    tracing::info!("the gateway stops: no new connections, and open ones are told to come back");
    let limit = gateway.edge.drain_timeout + LAST_WORDS;
    // A terminal that has not moved yet ends with its session as any other: revocations are heard of to the last.
    let left = tokio::select! {
        left = gateway.drain.clone().finish(limit) => left,
        never = background.then(|_| std::future::pending::<Infallible>()) => match never {},
    };
    if left > 0 {
        tracing::warn!(connections = left, "connections did not end in time and are broken off");
    }
    if let Some(recording) = &gateway.recording {
        recording.finish().await;
    }
    result
}

impl Gateway {
    /// Counts a connection that is not served, and gives it an id. That there is no place for more is evidence, too.
    fn refused(&self, refused: Refused, Peer(peer): Peer, last_audited: &Mutex<Option<Instant>>) -> String {
        let id = RequestId::of(&HeaderMap::new(), rand::random());
        let id = id.as_str().to_owned();
        self.metrics.refused(match refused {
            Refused::TooManyConnections => RefusalReason::TooManyConnections,
            Refused::Handshake => RefusalReason::Handshake,
            Refused::MalformedHead => RefusalReason::MalformedHead,
            Refused::LargeHead => RefusalReason::LargeHead,
            Refused::SlowHead => RefusalReason::SlowHead,
            Refused::SlowReader => RefusalReason::SlowReader,
        });
        if refused != Refused::TooManyConnections {
            return id;
        }
        let mut last = last_audited.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < AUDITED_EVERY) {
            return id;
        }
        *last = Some(Instant::now());
        drop(last);
        tracing::warn!(request_id = id, %peer, "there is no place for more connections; GATEWAY_MAX_CONNECTIONS says how many there are");
        audit::emit(&Event::RateLimitExceeded {
            actor: Actor {
                request_id: &id,
                ..Actor::default()
            },
            reason: RefusalReason::TooManyConnections.as_str(),
        });
        id
    }
}

fn alive(path: &str) -> Option<Page> {
    (path == "/healthz").then(|| Page::ok("text/plain", "ok\n".to_owned()))
}

async fn follow(certificate: Option<&ServerCertificate>) {
    match certificate {
        Some(certificate) => certificate.follow().await,
        None => std::future::pending().await,
    }
}

async fn terminal_certificate(gateway: &Gateway, client: &Client, namespace: &str) {
    if gateway.edge.terminal_tls {
        gateway.terminal_tls.follow(client, namespace).await;
    }
    std::future::pending().await
}

/// The keys, as soon as the API server gives them.
async fn session_keys(client: &Client, namespace: &str) -> Result<Vec<Key>, KeysError> {
    let mut pause = FIRST_PAUSE;
    loop {
        match session_keys::load(client, namespace).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, again_in_seconds = pause.as_secs(), "no session keys yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            result => return result,
        }
    }
}
