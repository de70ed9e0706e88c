//! A request for `/ws` becomes an open terminal: the user's WebSocket joined to that of their workspace's ttyd.

use super::admission::{Admitted, admit};
use super::authn::Caller;
use super::handshake;
use super::keep_alive::{self, ScreenSize};
use super::limits::AdmittedTo;
use super::places::{Full, Place};
use super::presence::Present;
use super::progress::is_open;
use super::recording;
use super::reject::Rejection;
use super::respond::Answer;
use super::service::{Asked, Gateway};
use super::standing::Over;
use super::vigil;
use crate::api::Workspace;
use crate::api::status::{StopReason, TerminalSession, WorkspaceStatus};
use crate::audit::{self, Action, Event, Outcome, Recorded};
use crate::config::clipboard::Clipboard;
use crate::config::recording::Notice;
use crate::proxy::{Cause, CopyFilter, End, PasteFilter, Recorders, Side, Socket, Stop, is_typing, relay, rewritten};
use crate::recording::Recording;
use crate::telemetry::metrics::{Direction, RefusalReason, TerminalClose};
use data_encoding::HEXLOWER;
use fastwebsockets::upgrade::UpgradeFut;
use hyper::header::USER_AGENT;
use hyper::upgrade::Upgraded;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::json;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use tokio::time::sleep;

/// The command byte of the gateway's own message to our page, its first ([`notice`]): ttyd sends none with it, and JSON follows.
const NOTICE: char = 'r';
/// Of what a browser calls itself, in characters.
const LONGEST_USER_AGENT: usize = 200;

/// Opens the terminal, or tells why there is none. The workspace is dialled first: a client that gets its 101 has a terminal behind it.
///
/// # Errors
/// When the request is no handshake, and for a program when the user may not enter or the workspace is not running.
pub async fn open(gateway: &Arc<Gateway>, asked: &mut Asked) -> Result<Answer, Rejection> {
    handshake::check(asked)?;
    let prepared = match prepare(gateway, asked).await {
        Ok(prepared) => prepared,
        Err(rejection) => return handshake::refuse(gateway, asked, rejection),
    };
    let Prepared {
        terminal,
        session,
        backend,
        recording,
    } = prepared;
    match handshake::accept(asked) {
        Ok((answer, upgraded)) => {
            gateway.drain.spawn(terminal.run(session, upgraded, backend, recording));
            Ok(answer)
        }
        Err(rejection) => {
            not_taken(recording).await;
            Err(rejection)
        }
    }
}

/// All that a terminal needs but its client.
struct Prepared {
    terminal: Box<Terminal>,
    session: Box<TerminalSession>,
    backend: Upgraded,
    recording: Option<Recording>,
}

async fn prepare(gateway: &Arc<Gateway>, asked: &Asked) -> Result<Prepared, Rejection> {
    let Admitted { caller, workspace } = admit(gateway, asked, AdmittedTo::Terminal).await?;
    let name = workspace.name_any();
    let ensured = |outcome, reason| {
        audit::emit(&Event::EnsureRunning {
            actor: caller.actor(asked),
            target: gateway.target(&name),
            action: Action::Get,
            outcome,
            reason,
        });
    };
    let place = enter(gateway, &name, workspace.status.as_ref()).map_err(|full| {
        let reason = match full {
            Full::User => RefusalReason::TooManyTerminalsOfUser,
            Full::Gateway => RefusalReason::TooManyTerminals,
        };
        gateway.metrics.refused(reason);
        ensured(Outcome::Denied, reason.as_str());
        Rejection::of(reason)
    })?;
    let dialled = if workspace.status.as_ref().is_some_and(is_open) {
        gateway.dial_terminal(&workspace).await.map_err(|error| {
            tracing::warn!(request_id = asked.id.as_str(), workspace = name, %error, "can't open a terminal");
            error.reason()
        })
    } else {
        Err("not_running")
    };
    match &dialled {
        Ok(_) => ensured(Outcome::Success, "running"),
        Err(reason) => ensured(Outcome::Failure, reason),
    }
    let backend = dialled.map_err(|_| Rejection::WorkspaceNotReady)?;
    let recording = recording::begin(gateway, asked, &caller, &name).await?;
    // It may be another one since.
    let container = container_of(gateway.workspaces.get(&name).as_deref().unwrap_or(&workspace));
    let session = Box::new(session(asked, caller.session_id(), &gateway.workspaces.pod_name));
    let terminal = Box::new(Terminal {
        gateway: Arc::clone(gateway),
        request: asked.without_request(),
        id: session.id.clone(),
        is_page: handshake::is_page(gateway, asked),
        container,
        caller,
        workspace: name,
        _place: place,
    });
    Ok(Prepared {
        terminal,
        session,
        backend,
        recording,
    })
}

/// The client left, or was none, before it had a terminal.
async fn not_taken(recording: Option<Recording>) {
    if let Some(recording) = recording {
        recording.close("not_taken").await;
    }
}

/// A terminal that is open.
struct Terminal {
    gateway: Arc<Gateway>,
    request: Asked,
    caller: Caller,
    workspace: String,
    id: String,
    /// Whether our own page has it.
    is_page: bool,
    /// The ID of the container that it is in; empty when it is not known.
    container: Box<str>,
    _place: Place,
}

/// Takes a place, the terminals that other gateways list among those of the user.
fn enter(gateway: &Gateway, name: &str, status: Option<&WorkspaceStatus>) -> Result<Place, Full> {
    let own = &gateway.workspaces.pod_name;
    let sessions = status.map(|status| status.sessions.as_slice()).unwrap_or_default();
    let elsewhere = sessions.iter().filter(|session| session.gateway != *own).count();
    gateway.terminals.enter(name, elsewhere)
}

impl Terminal {
    /// Most terminals are quiet most of the time: what is done before and after has memory of its own.
    async fn run(
        self: Box<Self>,
        session: Box<TerminalSession>,
        upgraded: UpgradeFut,
        backend: Upgraded,
        recording: Option<Recording>,
    ) {
        let mut client = match handshake::socket(upgraded).await {
            Ok(client) => client,
            Err(error) => {
                tracing::debug!(request_id = self.request.id.as_str(), %error, "a terminal was not taken");
                return not_taken(recording).await;
            }
        };
        if self.is_page {
            // Whatever the page was told when it was loaded: that may be long ago, and by another gateway.
            Box::pin(client.announce(&notice(&self.gateway, recording.is_some(), &self.container))).await;
        }
        let Self { gateway, workspace, .. } = &*self;
        audit::emit(&Event::SessionStart {
            actor: self.caller.actor(&self.request),
            target: gateway.target(workspace),
            recorded: recording.as_ref().map(|recording| Recorded {
                id: &recording.id,
                final_hash: None,
            }),
        });
        let metrics = &gateway.metrics;
        metrics.open_sessions.inc();
        let (client, backend) = filtered(client, backend.into(), gateway.clipboard);
        let client = client.counted(metrics.received(Direction::FromClient));
        let backend = backend.counted(metrics.received(Direction::FromWorkspace));
        let present = gateway.presence.enter(gateway, workspace, Some(*session));
        let mut size = None;
        let typed = |frame: &[u8]| {
            if is_typing(frame) {
                present.typed(gateway.clock.now());
            }
            size = ScreenSize::told_by(frame).or(size);
        };
        let recorders = recording.as_ref().map_or_else(Recorders::default, |recording| {
            recording::recorders(recording, &*gateway.clock)
        });
        let told = AtomicBool::new(false);
        let end = {
            let mut asked_at = Some(self.request.began);
            let mut heed = keep_alive::heeding(gateway, &self.workspace, &present);
            let printed = |frame: &[u8]| {
                if let Some(began) = asked_at.take() {
                    metrics.terminal_first_byte.observe(began.elapsed().as_secs_f64());
                }
                heed(frame);
            };
            let stop = pin!(self.stop(&present, recording.as_ref(), &told));
            relay(client, backend, typed, printed, recorders, stop).await
        };
        let last_input = present.last_input();
        drop(present);
        metrics.open_sessions.dec();
        let recording = recording.map(|recording| (recording, told.into_inner()));
        Box::pin(async {
            self.ended(end, recording).await;
            self.note_use(last_input).await;
            if let Some(size) = size.filter(|_| end.is_departure()) {
                self.listen(size).await;
            }
        })
        .await;
    }

    /// Tells of the end. Of a recording's failure it may have been told already.
    async fn ended(&self, end: End, recording: Option<(Recording, bool)>) {
        let Self { gateway, workspace, .. } = self;
        let (reason, code) = (end.reason(), close_code(end));
        let closes = &gateway.metrics.terminal_closes;
        closes.get_or_create(&TerminalClose { reason }).inc();
        let recording_id = recording.as_ref().map(|(recording, _)| recording.id.clone());
        let closed = match recording {
            Some((recording, told)) => {
                let (asked, caller) = (&self.request, &self.caller);
                recording::end(gateway, asked, caller, workspace, recording, reason, told).await
            }
            None => None,
        };
        audit::emit(&Event::SessionEnd {
            actor: self.caller.actor(&self.request),
            target: gateway.target(workspace),
            reason,
            recorded: recording_id.as_deref().map(|id| Recorded {
                id,
                final_hash: closed.as_ref().map(|closed| closed.final_hash.as_str()),
            }),
        });
        tracing::info!(
            request_id = self.request.id.as_str(),
            session_id = self.caller.session_id(),
            terminal_id = self.id,
            recording_id,
            workspace,
            reason,
            code,
            "a terminal was closed"
        );
    }

    /// Where its session is looked up, that it was used is kept.
    async fn note_use(&self, last_input: Option<Timestamp>) {
        let (Some(session), Some(used)) = (&self.caller.session, last_input) else {
            return;
        };
        let workspaces = &self.gateway.workspaces;
        let now = self.gateway.clock.now();
        if let Err(error) = workspaces.note_use(&self.workspace, session, used, now).await {
            tracing::debug!(session_id = session.id, %error, "the last use of a session can't be noted");
        }
    }

    /// Goes on listening in the place of a user who left, where that keeps the workspace awake.
    async fn listen(&self, size: ScreenSize) {
        let Self { gateway, workspace, .. } = self;
        if keep_alive::is_awake_by_output(gateway, workspace) && !gateway.presence.is_occupied(workspace) {
            let listening = gateway.presence.enter(gateway, workspace, None);
            keep_alive::listen(gateway, workspace, size, listening).await;
        }
    }

    async fn stop(&self, present: &Present, recording: Option<&Recording>, told: &AtomicBool) -> Stop {
        let gateway = &self.gateway;
        let used = || present.last_input();
        tokio::select! {
            over = vigil::over(gateway, &self.caller, &self.workspace, used) => match over {
                Over::Revoked => Stop::SessionRevoked,
                Over::Expired => Stop::SessionExpired,
                Over::Unconfirmed => Stop::SessionUnconfirmed,
                Over::Idle => Stop::SessionIdle,
                Over::Gone => Stop::Deleted,
            },
            () = gateway.workspaces.lost() => Stop::WatchLost,
            stop = self.stopped() => stop,
            () = recording::must_end(gateway, &self.request, &self.caller, &self.workspace, recording, told) => Stop::NotRecorded,
            () = self.moves() => Stop::Shutdown,
        }
    }

    /// Ends some time after the gateway was told to stop, each terminal at another one: not all of them come to the other replicas
    /// at once.
    async fn moves(&self) {
        self.gateway.drain.stopping().await;
        let share = rand::random_range(0.0..1.0);
        sleep(self.gateway.edge.drain_timeout.mul_f64(share)).await;
    }

    /// Ends when the Workspace is stopped: the watch tells every replica.
    async fn stopped(&self) -> Stop {
        let mut workspace = self.gateway.workspaces.follow(&self.workspace);
        loop {
            if let Some(stop) = why_it_stops(workspace.borrow_and_update().as_deref()) {
                return stop;
            }
            if workspace.changed().await.is_err() {
                // Nobody tells any more: the gateway is stopping.
                std::future::pending().await
            }
        }
    }
}

/// Both sockets without what may not be copied or pasted. Where both may be, they are as they were.
fn filtered(client: Socket, workspace: Socket, clipboard: Clipboard) -> (Socket, Socket) {
    let client = if clipboard.may_paste {
        client
    } else {
        rewritten(client, Side::Client, PasteFilter::default())
    };
    let workspace = if clipboard.may_copy {
        workspace
    } else {
        rewritten(workspace, Side::Workspace, CopyFilter::default())
    };
    (client, workspace)
}

/// Tells our page whether its session is recorded, and where users are to see that; and in which container it is, as keys that were typed
/// for the programs of one are not for those of the next.
fn notice(gateway: &Gateway, is_recorded: bool, container: &str) -> Vec<u8> {
    let settings = gateway.recording.as_ref().filter(|_| is_recorded);
    let notice = settings.map(|recording| recording.notice).unwrap_or_default();
    let Notice { in_bar, in_title } = notice;
    let told = json!({"bar": in_bar, "title": in_title, "container": container});
    format!("{NOTICE}{told}").into_bytes()
}

fn container_of(workspace: &Workspace) -> Box<str> {
    let status = workspace.status.as_ref();
    status.map_or_else(Box::default, |status| status.container_id.as_str().into())
}

/// What the status says of a terminal that opens.
fn session(asked: &Asked, sign_in: Option<&str>, gateway: &str) -> TerminalSession {
    let request = &asked.request;
    let agent = request.headers().get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    TerminalSession {
        id: HEXLOWER.encode(&rand::random::<[u8; 8]>()),
        sign_in: sign_in.unwrap_or_default().to_owned(),
        since: Time(asked.now),
        last_input: None,
        client_address: asked.client.to_string(),
        user_agent: agent.unwrap_or_default().chars().take(LONGEST_USER_AGENT).collect(),
        gateway: gateway.to_owned(),
    }
}

/// Why the terminals of a workspace are to be closed, if they are. The operator gives its reason before it deletes the pod.
fn why_it_stops(workspace: Option<&Workspace>) -> Option<Stop> {
    let Some(workspace) = workspace.filter(|workspace| workspace.metadata.deletion_timestamp.is_none()) else {
        return Some(Stop::Deleted);
    };
    if workspace.spec.suspended {
        return Some(Stop::Workspace(StopReason::Suspended));
    }
    let status = workspace.status.as_ref().filter(|status| !is_open(status))?;
    status.stop_reason.map(Stop::Workspace)
}

/// The close code that a side gave.
fn close_code(end: End) -> Option<u16> {
    match end {
        End::By(_, Cause::Closed(code)) => code,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Phase, WorkspaceSpec, WorkspaceStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn terminals_are_closed_when_the_operator_says_why() {
        let workspace = |phase, stop_reason| {
            let mut workspace = Workspace::new("dev1", WorkspaceSpec::default());
            workspace.status = Some(WorkspaceStatus {
                phase: Some(phase),
                stop_reason,
                ..WorkspaceStatus::default()
            });
            workspace
        };
        let idle = Some(StopReason::Idle);
        for (phase, reason, expected) in [
            // Such as a readiness probe that was late: the terminal may well go on.
            (Phase::Creating, None, None),
            (Phase::Failed, None, None),
            (Phase::Stopped, idle, idle),
            (Phase::Creating, Some(StopReason::Restart), Some(StopReason::Restart)),
        ] {
            let stop = why_it_stops(Some(&workspace(phase, reason)));
            assert_eq!(stop, expected.map(Stop::Workspace), "{phase} {reason:?}");
        }
        let mut suspended = workspace(Phase::Running, None);
        suspended.spec.suspended = true;
        let stop = why_it_stops(Some(&suspended));
        assert_eq!(stop, Some(Stop::Workspace(StopReason::Suspended)));
        let mut deleted = workspace(Phase::Running, None);
        deleted.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(why_it_stops(Some(&deleted)), Some(Stop::Deleted));
        assert_eq!(why_it_stops(None), Some(Stop::Deleted));
    }

    /// Ten thousand of them are open in one gateway. What is awaited in [`Terminal::run`] has its place in every terminal's task for as
    /// long as that lives: what is rare is to be boxed.
    #[test]
    fn an_open_terminal_takes_little_memory() {
        fn task_of<A, B, C, D, E, F: Future>(_: impl FnOnce(A, B, C, D, E) -> F) -> usize {
            size_of::<F>()
        }
        let bytes = size_of::<Terminal>() + task_of(Terminal::run);
        assert!(bytes <= 5632, "{bytes} bytes");
    }
}
