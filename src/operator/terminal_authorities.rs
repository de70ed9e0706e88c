//! Two Secrets of the control plane become the authorities that vouch for terminals, made when missing and rotated in time.
//!
//! `workspace-terminal-authorities` has the keys that sign, and is the operator's alone. `workspace-gateway-terminal-tls` has what a
//! gateway shows to workspaces and whom it trusts. Whoever deletes the first makes every certificate worthless at once: gateways enter
//! no workspace that was started before, until it has another pod.

use super::apply::as_operator;
use super::{backoff, watches};
use crate::certificates::{Authorities, CertificateError};
use crate::clock::{Clock, until};
use crate::labels::{ROTATE_REQUESTED_AT, TERMINAL_AUTHORITY};
use crate::names::{CERTIFICATE_ENTRIES, GATEWAY_TERMINAL_SECRET, TERMINAL_AUTHORITIES_SECRET};
use crate::telemetry::metrics::OperatorMetrics;
use futures::stream::{self, Stream, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use snafu::{OptionExt, ResultExt, Snafu};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tokio::time::sleep;

const ENTRY: &str = "authorities.json";
/// After a failure: at first, and at most.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// How long the API server may refuse before it is said that there are none: it refuses some requests while it starts, and rights that were just
/// given take a moment.
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(10);
/// Clocks are set, and machines sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(24 * 3600);

/// Why they are not as they should be. Holds nothing of a Secret's content.
#[derive(Debug, Snafu)]
enum TendError {
    #[snafu(display("can't read the Secret {name}: {source}"))]
    Read { name: &'static str, source: kube::Error },
    #[snafu(display("can't write the Secret {name}: {source}"))]
    Write { name: &'static str, source: kube::Error },
    #[snafu(display(
        "the Secret {TERMINAL_AUTHORITIES_SECRET} is not usable: expected an entry {ENTRY} as the operator wrote it; put it back, or delete the Secret to have it made anew, which takes another pod for every workspace that runs"
    ))]
    Unusable,
    #[snafu(context(false), display("{source}"))]
    Certificate { source: CertificateError },
}

/// Who vouches for terminals.
#[derive(Clone)]
pub enum Vouching {
    /// Nobody: terminals are reached without TLS.
    Off,
    /// It is not known yet.
    Pending,
    By(Arc<Authorities>),
    /// Nobody can, so no pod is made. What runs goes on.
    Unavailable,
}

impl Vouching {
    pub fn authorities(&self) -> Option<&Authorities> {
        match self {
            Self::By(authorities) => Some(authorities),
            Self::Off | Self::Pending | Self::Unavailable => None,
        }
    }
}

/// The authorities, as they change; clones follow the same.
#[derive(Clone)]
pub struct TerminalAuthorities {
    known: watch::Receiver<Vouching>,
}

impl TerminalAuthorities {
    /// Terminals are reached without TLS.
    pub fn off() -> Self {
        Self {
            known: watch::channel(Vouching::Off).1,
        }
    }

    /// Keeps both Secrets in `namespace`.
    pub fn follow(client: &Client, namespace: &str, clock: Arc<dyn Clock>, metrics: Arc<OperatorMetrics>) -> Self {
        let (publish, known) = watch::channel(Vouching::Pending);
        let keeper = Keeper {
            secrets: Api::namespaced(client.clone(), namespace),
            clock,
            metrics,
            publish,
        };
        tokio::spawn(keeper.keep());
        Self { known }
    }

    pub fn now(&self) -> Vouching {
        self.known.borrow().clone()
    }

    /// Waits until it is known whether there are any.
    ///
    /// # Errors
    /// When the process stops.
    pub async fn answered(&self) -> Result<(), RecvError> {
        let is_known = |known: &Vouching| !matches!(known, Vouching::Pending);
        self.known.clone().wait_for(is_known).await.map(drop)
    }

    /// An item each time that something may have to be done for pods that run.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        watches::changes(&self.known)
    }
}

/// What a failure says of the authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// They vouch for nobody until somebody mends them.
    Unusable,
    /// The API server has not let us have them for a while. What is known stands.
    Refused,
    /// Nothing yet: it does not answer, so that no pod can be made either, or has refused only a moment ago.
    Passing,
}

/// Failures in a row.
#[derive(Debug, Default)]
struct Failing {
    times: u32,
    refused_since: Option<Timestamp>,
}

impl Failing {
    fn with(&mut self, error: &TendError, now: Timestamp) -> Failure {
        self.times = self.times.saturating_add(1);
        match error {
            TendError::Unusable => return Failure::Unusable,
            TendError::Read { source, .. } | TendError::Write { source, .. }
                if !matches!(source, kube::Error::Api(_)) =>
            {
                self.refused_since = None;
                return Failure::Passing;
            }
            TendError::Read { .. } | TendError::Write { .. } | TendError::Certificate { .. } => {}
        }
        let since = *self.refused_since.get_or_insert(now);
        if now >= since + REFUSED_FOR {
            Failure::Refused
        } else {
            Failure::Passing
        }
    }
}

struct Keeper {
    secrets: Api<Secret>,
    clock: Arc<dyn Clock>,
    metrics: Arc<OperatorMetrics>,
    publish: watch::Sender<Vouching>,
}

impl Keeper {
    async fn keep(self) {
        let watch = |name: &str| {
            let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
            watcher(self.secrets.clone(), config)
                .backoff(backoff::of_watch(name))
                .touched_objects()
                .boxed()
        };
        let mut changes = stream::select_all([TERMINAL_AUTHORITIES_SECRET, GATEWAY_TERMINAL_SECRET].map(watch));
        let mut failing = Failing::default();
        let mut last_error = String::new();
        loop {
            let wait = match self.tend().await {
                Ok(look_again_at) => {
                    failing = Failing::default();
                    last_error.clear();
                    until(look_again_at, self.clock.now()).min(LONGEST_SLEEP)
                }
                Err(error) => {
                    self.failed(failing.with(&error, self.clock.now()));
                    let text = error.to_string();
                    if text != last_error {
                        tracing::error!(error = text, "the certificates for terminals can't be kept");
                        last_error = text;
                    }
                    backoff::delay(FIRST_DELAY, LONGEST_DELAY, failing.times, TERMINAL_AUTHORITIES_SECRET)
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                Some(_) = changes.next() => {}
            }
        }
    }

    fn failed(&self, failure: Failure) {
        let changed = self.publish.send_if_modified(|known| {
            let takes = match known {
                Vouching::Pending => matches!(failure, Failure::Unusable | Failure::Refused),
                Vouching::By(_) => failure == Failure::Unusable,
                Vouching::Off | Vouching::Unavailable => false,
            };
            if takes {
                *known = Vouching::Unavailable;
            }
            takes
        });
        if changed {
            self.metrics.terminal_authorities_usable.set(0);
        }
    }

    /// Gives the time at which to do it again.
    async fn tend(&self) -> Result<Timestamp, TendError> {
        let now = self.clock.now();
        let there = self.read(TERMINAL_AUTHORITIES_SECRET).await?;
        let authorities = match &there {
            None => {
                let made = Authorities::make(now)?;
                self.write_authorities(&made, None).await?;
                tracing::info!(secret = TERMINAL_AUTHORITIES_SECRET, "made an authority for terminals");
                made
            }
            Some(secret) => {
                let entry = secret.data.as_ref().and_then(|data| data.get(ENTRY));
                let entry = entry.context(UnusableSnafu)?;
                let read = Authorities::read(&entry.0).map_err(|_| TendError::Unusable)?;
                match read.tended(requested(secret), now)? {
                    None => read,
                    Some(tended) => {
                        self.write_authorities(&tended, Some(secret)).await?;
                        tracing::info!(
                            secret = TERMINAL_AUTHORITIES_SECRET,
                            "the authorities for terminals were rotated"
                        );
                        tended
                    }
                }
            }
        };
        // Gateways first: what they have not heard of they do not trust.
        self.keep_gateway(&authorities).await?;
        let look_again_at = authorities.look_again_at(now);
        self.publish.send_replace(Vouching::By(Arc::new(authorities)));
        self.metrics.terminal_authorities_usable.set(1);
        Ok(look_again_at)
    }

    async fn write_authorities(&self, authorities: &Authorities, there: Option<&Secret>) -> Result<(), TendError> {
        let data = [(ENTRY.to_owned(), ByteString(authorities.write()?))];
        self.write(
            TERMINAL_AUTHORITIES_SECRET,
            "Opaque",
            data.into(),
            BTreeMap::new(),
            there,
        )
        .await
    }

    async fn keep_gateway(&self, authorities: &Authorities) -> Result<(), TendError> {
        let there = self.read(GATEWAY_TERMINAL_SECRET).await?;
        let trusted = ByteString(authorities.of_workspaces().into_bytes());
        let authority = authorities.for_gateways();
        let [trust, certificate, key] = CERTIFICATE_ENTRIES;
        let holds = there.as_ref().is_some_and(|secret| {
            let entry = |name| secret.data.as_ref().and_then(|data| data.get(name));
            secret.annotations().get(TERMINAL_AUTHORITY) == Some(&authority.id)
                && entry(trust) == Some(&trusted)
                && entry(certificate).is_some()
                && entry(key).is_some()
        });
        if holds {
            return Ok(());
        }
        let issued = authority.gateway()?;
        let data = [
            (trust.to_owned(), trusted),
            (certificate.to_owned(), ByteString(issued.certificate.into_bytes())),
            (key.to_owned(), ByteString(issued.key.into_bytes())),
        ];
        let annotations = [(TERMINAL_AUTHORITY.to_owned(), authority.id.clone())].into();
        let kind = "kubernetes.io/tls";
        self.write(GATEWAY_TERMINAL_SECRET, kind, data.into(), annotations, there.as_ref())
            .await
    }

    async fn read(&self, name: &'static str) -> Result<Option<Secret>, TendError> {
        self.secrets.get_opt(name).await.context(ReadSnafu { name })
    }

    /// In the place of the Secret that was read, and of no other: `there` has its version (Kubernetes API: optimistic concurrency).
    async fn write(
        &self,
        name: &'static str,
        kind: &str,
        data: BTreeMap<String, ByteString>,
        annotations: BTreeMap<String, String>,
        there: Option<&Secret>,
    ) -> Result<(), TendError> {
        let mut secret = there.cloned().unwrap_or_else(|| Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(kind.to_owned()),
            ..Secret::default()
        });
        secret.data = Some(data);
        secret.annotations_mut().extend(annotations);
        let written = match there {
            None => self.secrets.create(&as_operator(), &secret).await,
            Some(_) => self.secrets.replace(name, &as_operator(), &secret).await,
        };
        written.context(WriteSnafu { name }).map(drop)
    }
}

/// The time of the rotation that an administrator has asked for.
fn requested(secret: &Secret) -> Option<Timestamp> {
    secret.annotations().get(ROTATE_REQUESTED_AT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn a_failure_is_told_of_when_it_is_more_than_an_api_server_that_starts() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let read = |source| TendError::Read {
            name: TERMINAL_AUTHORITIES_SECRET,
            source,
        };
        let refused = || read(kube::Error::Api(Status::failure("not yet", "Forbidden").boxed()));
        let silent = || read(kube::Error::LinesCodecMaxLineLengthExceeded);
        let mut failing = Failing::default();
        for (seconds, error, expected) in [
            (0, refused(), Failure::Passing),
            (9, refused(), Failure::Passing),
            (10, silent(), Failure::Passing),
            // Counted from here: it was away.
            (60, refused(), Failure::Passing),
            (69, refused(), Failure::Passing),
            (70, refused(), Failure::Refused),
            (71, TendError::Unusable, Failure::Unusable),
        ] {
            assert_eq!(failing.with(&error, at(seconds)), expected, "after {seconds} s");
        }
        assert_eq!(failing.times, 7);
    }
}
