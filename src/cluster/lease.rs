//! A Lease becomes the right to work: at most one of several operators holds it.
//!
//! The protocol is that of client-go's leader election on `coordination.k8s.io/v1`: who holds the Lease renews it; who does
//! not takes it over once it has not changed for its duration, measured by the own clock since the last change was seen,
//! never by comparing clocks. Every write carries the `resourceVersion` that was read, so two candidates can't both
//! succeed. A holder that can't renew in time must end its process: another one may be working already.

use crate::clock::Clock;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use snafu::Snafu;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// client-go's defaults.
const DURATION: Duration = Duration::from_secs(15);
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);

/// Which Lease, and who wants it.
#[derive(Clone, Debug)]
pub struct Settings {
    pub namespace: String,
    pub name: String,
    pub identity: String,
}

impl Settings {
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
        }
    }
}

/// Leadership is lost.
#[derive(Debug, Snafu)]
pub enum LeaseError {
    #[snafu(display("the Lease is now held by {holder}"))]
    TakenOver { holder: String },
    #[snafu(display("the Lease could not be renewed in time"))]
    NotRenewed,
}

/// What a candidate does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Create,
    Take,
    Wait,
}

/// `unchanged_for` is how long the Lease has been seen as it is.
fn decide(lease: Option<&Lease>, identity: &str, unchanged_for: Duration) -> Decision {
    let Some(lease) = lease else { return Decision::Create };
    let spec = lease.spec.clone().unwrap_or_default();
    let holder = spec.holder_identity.unwrap_or_default();
    let seconds = spec
        .lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(DURATION, Duration::from_secs);
    if holder.is_empty() || holder == identity || unchanged_for >= duration {
        Decision::Take
    } else {
        Decision::Wait
    }
}

/// A candidate.
pub struct Elector {
    api: Api<Lease>,
    settings: Settings,
    clock: Arc<dyn Clock>,
}

/// The Lease, held.
pub struct Held {
    elector: Elector,
    lease: Lease,
    renewed: Instant,
}

impl Elector {
    pub fn new(client: Client, settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self {
            api: Api::namespaced(client, &settings.namespace),
            settings,
            clock,
        }
    }

    /// Waits until the Lease is ours. Errors of the API server are logged and outlasted.
    pub async fn acquire(self) -> Held {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            let asked = Instant::now();
            match timeout(RENEW_DEADLINE, self.attempt(&mut seen)).await {
                Ok(Ok(Some(lease))) => {
                    tracing::info!(
                        lease = self.settings.name,
                        identity = self.settings.identity,
                        "leadership acquired"
                    );
                    return Held {
                        elector: self,
                        lease,
                        renewed: asked,
                    };
                }
                Ok(Ok(None)) => {}
                Err(_) => tracing::warn!(
                    lease = self.settings.name,
                    "can't acquire the Lease yet: the API server does not answer"
                ),
                Ok(Err(error)) => tracing::warn!(lease = self.settings.name, %error, "can't acquire the Lease yet"),
            }
            sleep(RETRY).await;
        }
    }

    async fn attempt(&self, seen: &mut Option<(String, Instant)>) -> Result<Option<Lease>, kube::Error> {
        let lease = self.api.get_opt(&self.settings.name).await?;
        let version = lease
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.clone())
            .unwrap_or_default();
        let since = match seen {
            Some((last, since)) if *last == version => *since,
            _ => seen.insert((version, Instant::now())).1,
        };
        match decide(lease.as_ref(), &self.settings.identity, since.elapsed()) {
            Decision::Wait => Ok(None),
            Decision::Create => written(self.api.create(&PostParams::default(), &self.ours(None)).await),
            Decision::Take => written(
                self.api
                    .replace(&self.settings.name, &PostParams::default(), &self.ours(lease.as_ref()))
                    .await,
            ),
        }
    }

    /// The Lease as we write it, on top of the one that was read.
    fn ours(&self, last: Option<&Lease>) -> Lease {
        let now = MicroTime(self.clock.now());
        let mut lease = last.cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.settings.name.clone()),
                namespace: Some(self.settings.namespace.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(&self.settings.identity) {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(-1).saturating_add(1));
        }
        spec.holder_identity = Some(self.settings.identity.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

/// Somebody else's write in between is no error: it is looked at again.
fn written(result: Result<Lease, kube::Error>) -> Result<Option<Lease>, kube::Error> {
    match result {
        Ok(lease) => Ok(Some(lease)),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(error),
    }
}

impl Held {
    /// Renews the Lease until that fails for good: never later than the deadline after the last renewal was asked for, which
    /// is before any other candidate may see the Lease run out.
    pub async fn keep(&mut self) -> LeaseError {
        loop {
            sleep(RETRY).await;
            let asked = Instant::now();
            let deadline = self.renewed + RENEW_DEADLINE;
            match timeout_at(deadline.min(asked + RETRY * 2), self.renew()).await {
                Ok(Ok(Some(holder))) => return LeaseError::TakenOver { holder },
                Ok(Ok(None)) => self.renewed = asked,
                Ok(Err(error)) => tracing::warn!(%error, "can't renew the Lease"),
                Err(_) => tracing::warn!("can't renew the Lease: the API server does not answer"),
            }
            if Instant::now() >= self.renewed + RENEW_DEADLINE {
                return LeaseError::NotRenewed;
            }
        }
    }

    /// `Some(holder)` when it is someone else's.
    async fn renew(&mut self) -> Result<Option<String>, kube::Error> {
        let Elector { api, settings, .. } = &self.elector;
        let renewed = self.elector.ours(Some(&self.lease));
        if let Some(lease) = written(api.replace(&settings.name, &PostParams::default(), &renewed).await)? {
            self.lease = lease;
            return Ok(None);
        }
        let Some(now) = api.get_opt(&settings.name).await? else {
            return Ok(Some("nobody".to_owned()));
        };
        let holder = now
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.clone())
            .unwrap_or_default();
        if holder != settings.identity {
            return Ok(Some(holder));
        }
        let renewed = self.elector.ours(Some(&now));
        self.lease = api.replace(&settings.name, &PostParams::default(), &renewed).await?;
        Ok(None)
    }

    /// Gives the Lease up, so that the next candidate need not wait for it to run out.
    pub async fn release(self) {
        let mut lease = self.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
        }
        let Elector { api, settings, .. } = &self.elector;
        let replaced = timeout(RETRY, api.replace(&settings.name, &PostParams::default(), &lease)).await;
        if !matches!(replaced, Ok(Ok(_))) {
            tracing::info!("the Lease was not given up; it runs out by itself");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str, seconds: i32) -> Lease {
        Lease {
            metadata: ObjectMeta::default(),
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(seconds),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn takes_only_what_is_free_ours_or_run_out() {
        let seconds = Duration::from_secs;
        assert_eq!(decide(None, "a", seconds(0)), Decision::Create);
        assert_eq!(decide(Some(&held_by("", 15)), "a", seconds(0)), Decision::Take);
        assert_eq!(decide(Some(&held_by("a", 15)), "a", seconds(0)), Decision::Take);
        assert_eq!(decide(Some(&held_by("b", 15)), "a", seconds(14)), Decision::Wait);
        assert_eq!(decide(Some(&held_by("b", 15)), "a", seconds(15)), Decision::Take);
        assert_eq!(decide(Some(&held_by("b", -5)), "a", seconds(14)), Decision::Wait);
        assert_eq!(decide(Some(&held_by("b", 60)), "a", seconds(59)), Decision::Wait);
    }
}
