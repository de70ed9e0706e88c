//! An open terminal becomes a recorded one, and a recording that fails an end of the session or an alert, as the settings say.

use super::authn::Caller;
use super::reject::Rejection;
use super::service::{Asked, Gateway};
use crate::audit::{self, Event};
use crate::clock::Clock;
use crate::config::RecordingConfig;
use crate::config::recording::{Notice, OnFailure};
use crate::proxy::{Kind, OnPiece, Piece, Recorders};
use crate::recording::chain::{Direction, MessageType};
use crate::recording::recorder::{StartError, Trouble};
use crate::recording::seal::{KeyError, SigningKey};
use crate::recording::{About, Closed, Failure, Options, Part, Recorder, Recording};
use crate::telemetry::metrics::{GatewayMetrics, RecordingFailure, RecordingFault};
use snafu::{ResultExt, Snafu};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What may wait for the disk, of all sessions together.
const QUEUE: usize = 32 << 20;
/// For what waits to be written when the gateway stops.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why sessions can't be recorded at all.
#[derive(Debug, Snafu)]
pub enum RecordingError {
    #[snafu(display("{source}"))]
    Key { source: KeyError },
    #[snafu(display("{source}"))]
    Start { source: StartError },
}

/// How this gateway records.
pub struct SessionRecording {
    recorder: Recorder,
    on_failure: OnFailure,
    pub notice: Notice,
}

impl SessionRecording {
    /// Begins to record, when the settings say so.
    ///
    /// # Errors
    /// When the key can't be read, or the directory not be written to.
    pub fn start(
        config: Option<RecordingConfig>,
        pod_name: &str,
        metrics: &GatewayMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<Self>, RecordingError> {
        let Some(config) = config else { return Ok(None) };
        let RecordingConfig {
            mode,
            directory,
            on_failure,
            input,
            sync,
            checkpoint_records,
            checkpoint_every,
            key,
            compress,
            keep_for,
            max_bytes,
            notice,
        } = config;
        let key = key.as_deref().map(SigningKey::read).transpose().context(KeySnafu)?;
        tracing::info!(
            directory = %directory.display(),
            ?mode,
            ?input,
            key = key.as_ref().map(SigningKey::id),
            "sessions are recorded"
        );
        let options = Options {
            directory,
            // A pod that starts again has the same name, and another ledger.
            gateway: format!("{pod_name}-{:08x}", rand::random::<u32>()),
            mode,
            input,
            sync,
            checkpoint_records: checkpoint_records.get(),
            checkpoint_every,
            key,
            compress,
            keep_for,
            max_bytes,
            queue_bytes: QUEUE,
            is_strict: on_failure == OnFailure::EndSession,
        };
        let failures = metrics.recording_failures.clone();
        let tell = move |trouble: Trouble, error: &str| {
            let reason = match trouble {
                Trouble::Ledger => RecordingFault::Ledger,
                Trouble::Checkpoint => RecordingFault::Checkpoint,
                Trouble::Manifest => RecordingFault::Manifest,
                Trouble::Compression => RecordingFault::Compression,
                Trouble::Retention => RecordingFault::Retention,
            };
            failures.get_or_create(&RecordingFailure { reason }).inc();
            tracing::error!(
                reason = reason.as_str(),
                error,
                "recordings are not kept as they should be"
            );
        };
        let recorder = Recorder::start(options, clock, Arc::new(tell)).context(StartSnafu)?;
        Ok(Some(Self {
            recorder,
            on_failure,
            notice,
        }))
    }

    /// Writes what still waits.
    pub async fn finish(&self) {
        self.recorder.finish(FINISH_TIMEOUT).await;
    }
}

/// Begins the recording of a terminal that is about to open; `None` when none is wanted, or none can be made and that is allowed.
///
/// # Errors
/// When there can't be one, and there must.
pub async fn begin(
    gateway: &Gateway,
    asked: &Asked,
    caller: &Caller,
    workspace: &str,
) -> Result<Option<Recording>, Rejection> {
    let Some(recording) = &gateway.recording else {
        return Ok(None);
    };
    let about = About {
        request_id: asked.id.as_str(),
        issuer: &caller.person.identity.issuer,
        subject: &caller.person.identity.subject,
        user_id: caller.user_id.as_str(),
        namespace: &gateway.workspaces.namespace,
        workspace,
    };
    let begun = recording
        .recorder
        .begin(about, asked.now, rand::random(), rand::random());
    match begun.await {
        Ok(recording) => Ok(Some(recording)),
        Err(failure) => {
            report(gateway, asked, caller, workspace, failure);
            match recording.on_failure {
                OnFailure::EndSession => Err(Rejection::NotRecorded),
                OnFailure::GoOn => Ok(None),
            }
        }
    }
}

/// Ends when the session must, because it is not recorded any more. What is not recorded is told of in any case, and `told` says so.
pub async fn must_end(
    gateway: &Gateway,
    asked: &Asked,
    caller: &Caller,
    workspace: &str,
    recording: Option<&Recording>,
    told: &AtomicBool,
) {
    if let (Some(recording), Some(settings)) = (recording, &gateway.recording) {
        let failure = recording.failed().await;
        told.store(true, Ordering::Relaxed);
        report(gateway, asked, caller, workspace, failure);
        if settings.on_failure == OnFailure::EndSession {
            return;
        }
    }
    std::future::pending().await
}

/// Ends the recording; gives what it was, when that is on disk in time. What failed in it is told of, unless it was `told`.
pub async fn end(
    gateway: &Gateway,
    asked: &Asked,
    caller: &Caller,
    workspace: &str,
    recording: Recording,
    reason: &'static str,
    told: bool,
) -> Option<Closed> {
    let (closed, failure) = recording.close(reason).await;
    if let Some(failure) = failure.filter(|_| !told) {
        report(gateway, asked, caller, workspace, failure);
    }
    closed
}

fn report(gateway: &Gateway, asked: &Asked, caller: &Caller, workspace: &str, failure: Failure) {
    let fault = match failure {
        Failure::Open => RecordingFault::OpenFailed,
        Failure::Write => RecordingFault::WriteFailed,
        Failure::QueueFull => RecordingFault::QueueFull,
        Failure::Stalled => RecordingFault::Stalled,
    };
    let reason = fault.as_str();
    gateway
        .metrics
        .recording_failures
        .get_or_create(&RecordingFailure { reason: fault })
        .inc();
    audit::emit(&Event::RecordingFailed {
        actor: caller.actor(asked),
        target: gateway.target(workspace),
        reason,
    });
    tracing::error!(
        request_id = asked.id.as_str(),
        workspace,
        reason,
        "a session is not recorded"
    );
}

/// What gathers the messages of both directions.
pub fn recorders<'a>(recording: &'a Recording, clock: &'a dyn Clock) -> Recorders<'a> {
    let recorder = |direction| -> Option<OnPiece<'a>> {
        let mut tap = recording.tap(direction);
        Some(Box::new(move |piece: Piece<'_>| {
            let begins = piece.begins.map(|kind| match kind {
                Kind::Text => MessageType::Text,
                Kind::Binary => MessageType::Binary,
            });
            let part = Part {
                begins,
                payload: piece.payload,
                ahead: piece.ahead,
                is_last: piece.is_last,
            };
            tap.frame(part, || clock.now())
        }))
    };
    Recorders {
        from_client: recorder(Direction::ClientToBackend),
        from_workspace: recorder(Direction::BackendToClient),
    }
}
