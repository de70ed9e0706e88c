//! A workspace whose user has left stays awake while it prints (`spec.lifecycle.keepAlive: output`): a long build goes on.
//!
//! ttyd tells what a terminal prints to whoever is connected, so the gateway stays connected in the user's place. It shows
//! the output to nobody and types nothing. A gateway that stops hands this over by an annotation: of the others, the one that takes
//! it off goes on (Kubernetes: of two writes that name the same `resourceVersion` one is refused).

use super::presence::Present;
use super::progress::is_open;
use super::service::Gateway;
use super::workspaces::{Workspaces, as_gateway};
use crate::api::Workspace;
use crate::api::workspace::KeepAlive;
use crate::labels::LISTEN;
use crate::proxy::{self, is_output};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::Patch;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Within this a gateway reaches for what is handed over: not all of them at once.
const REACHES_WITHIN: Duration = Duration::from_millis(500);

/// A change of the spec counts for what is printed after this at the latest.
const ASKED_AGAIN_AFTER: SignedDuration = SignedDuration::from_secs(1);

/// A refusal that is no other gateway's doing may be over by then.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The size of the user's screen, so that what runs there sees no other.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct ScreenSize {
    columns: u16,
    rows: u16,
}

/// What the annotation says.
#[derive(Deserialize, Serialize)]
struct HandedOver {
    #[serde(flatten)]
    size: ScreenSize,
    /// The pod that stops.
    gateway: String,
}

impl ScreenSize {
    /// The size in a client's message, when there is one: its first message, or a resize (ttyd's protocol).
    pub fn told_by(frame: &[u8]) -> Option<Self> {
        let json = match frame {
            [b'{', ..] => frame,
            [b'1', rest @ ..] => rest,
            _ => return None,
        };
        serde_json::from_slice(json).ok()
    }
}

/// Whether what a workspace prints keeps it awake, as its spec says now.
pub fn is_awake_by_output(gateway: &Gateway, workspace: &str) -> bool {
    let known = gateway.workspaces.get(workspace);
    known.is_some_and(|workspace| asks_for_it(&workspace))
}

fn asks_for_it(workspace: &Workspace) -> bool {
    workspace.spec.lifecycle.keep_alive == KeepAlive::Output
}

/// Takes note of each frame of a terminal: of output as use, where it counts.
pub fn heeding<'a>(gateway: &'a Gateway, workspace: &'a str, present: &'a Present) -> impl FnMut(&[u8]) + 'a {
    let mut counts = false;
    let mut ask_at = Timestamp::MIN;
    move |frame| {
        if !is_output(frame) {
            return;
        }
        let now = gateway.clock.now();
        if now >= ask_at {
            counts = is_awake_by_output(gateway, workspace);
            ask_at = now + ASKED_AGAIN_AFTER;
        }
        if counts {
            present.used(now);
        }
    }
}

/// Listens until the workspace stops, somebody opens a terminal, or the gateway stops and hands it over.
pub async fn listen(gateway: &Gateway, workspace: &str, size: ScreenSize, present: Present) {
    tokio::select! {
        () = hear(gateway, workspace, size, &present) => {}
        () = present.joined() => {}
        () = gateway.drain.stopping() => {
            if let Err(error) = gateway.workspaces.hand_over(workspace, size).await {
                tracing::warn!(workspace, %error, "no other gateway can be asked to listen: what is printed keeps this workspace awake no longer");
            }
        }
    }
}

/// Listens where a gateway that has stopped did. Ends when this one stops.
pub async fn take_over(gateway: Arc<Gateway>) {
    let workspaces = &gateway.workspaces;
    loop {
        tokio::select! {
            () = workspaces.handed_over.notified() => {}
            () = gateway.drain.stopping() => return,
        }
        sleep(REACHES_WITHIN.mul_f64(rand::random_range(0.0..1.0))).await;
        for name in workspaces.which(|workspace| workspace.annotations().contains_key(LISTEN)) {
            // Another one may have been faster.
            let Some(workspace) = workspaces.get(&name) else {
                continue;
            };
            let Some(asked) = workspace.annotations().get(LISTEN) else {
                continue;
            };
            match workspaces.take(&workspace).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    tracing::warn!(workspace = name, %error, "can't take over to listen; it is tried again");
                    sleep(AGAIN_AFTER).await;
                    workspaces.handed_over.notify_one();
                    continue;
                }
            }
            let asked = serde_json::from_str::<HandedOver>(asked).ok();
            let Some(HandedOver { size, .. }) = asked.filter(|asked| is_unheard(&workspace, &asked.gateway)) else {
                continue;
            };
            // One that listens already hears all of it.
            if gateway.presence.is_anybody_at(&name) {
                continue;
            }
            tracing::info!(workspace = name, "listens in the place of a gateway that has stopped");
            let (present, listening) = (gateway.presence.enter(&gateway, &name, None), Arc::clone(&gateway));
            gateway
                .drain
                .spawn(async move { listen(&listening, &name, size, present).await });
        }
    }
}

/// Whether what it prints is still to be listened to. Where a terminal is open, its gateway does, unless that is the one that stops.
fn is_unheard(workspace: &Workspace, stops: &str) -> bool {
    let status = workspace.status.as_ref();
    asks_for_it(workspace)
        && status
            .is_some_and(|status| is_open(status) && status.sessions.iter().all(|session| session.gateway == stops))
}

impl Workspaces {
    /// Asks another gateway to listen.
    async fn hand_over(&self, name: &str, size: ScreenSize) -> Result<(), kube::Error> {
        let gateway = self.pod_name.clone();
        let patch = json!({"metadata": {"annotations": {LISTEN: json!(HandedOver { size, gateway }).to_string()}}});
        self.api
            .patch(name, &as_gateway(), &Patch::Merge(patch))
            .await
            .map(drop)
    }

    /// Takes the request off; `false` when it was changed meanwhile, which the watch tells of.
    async fn take(&self, workspace: &Workspace) -> Result<bool, kube::Error> {
        let patch =
            json!({"metadata": {"resourceVersion": workspace.resource_version(), "annotations": {LISTEN: null}}});
        let taken = self
            .api
            .patch(&workspace.name_any(), &as_gateway(), &Patch::Merge(patch))
            .await;
        match taken {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

async fn hear(gateway: &Gateway, workspace: &str, ScreenSize { columns, rows }: ScreenSize, present: &Present) {
    let known = gateway.workspaces.get(workspace);
    let Some(known) = known else { return };
    let terminal = match gateway.dial_terminal(&known).await {
        Ok(upgraded) => upgraded.into(),
        Err(error) => {
            tracing::warn!(workspace, %error, "can't listen to a workspace that is to stay awake while it prints");
            return;
        }
    };
    let hello = json!({"AuthToken": "", "columns": columns, "rows": rows}).to_string();
    let end = proxy::listen(terminal, hello.as_bytes(), heeding(gateway, workspace, present)).await;
    tracing::debug!(
        workspace,
        reason = end.reason(),
        "a workspace that was listened to has ended that"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_in_the_first_message_and_in_each_resize() {
        let size = Some(ScreenSize { columns: 80, rows: 24 });
        assert_eq!(ScreenSize::told_by(br#"{"AuthToken":"","columns":80,"rows":24}"#), size);
        assert_eq!(ScreenSize::told_by(br#"1{"columns":80,"rows":24}"#), size);
        for other in [&b"0ls\r"[..], b"", b"1", br#"1{"columns":-1,"rows":24}"#, b"2"] {
            assert_eq!(ScreenSize::told_by(other), None, "{other:?}");
        }
    }
}
