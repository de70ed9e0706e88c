//! A workspace whose user has left stays awake while it prints (`spec.lifecycle.keepAlive: output`): a long build goes on.
//!
//! ttyd tells what a terminal prints to whoever is connected, so the gateway stays connected in the user's place. It shows
//! the output to nobody and types nothing.

use super::presence::Present;
use super::service::Gateway;
use crate::proxy::{self, is_output};
use serde::Deserialize;
use serde_json::json;

/// The size of the user's screen, so that what runs there sees no other.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub struct ScreenSize {
    columns: u16,
    rows: u16,
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

/// Listens until the workspace stops, the gateway does, or somebody opens a terminal.
pub async fn listen(gateway: &Gateway, workspace: &str, size: ScreenSize, present: Present) {
    tokio::select! {
        () = hear(gateway, workspace, size, &present) => {}
        () = present.joined() => {}
        () = gateway.drain.stopping() => {}
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
    let printed = |frame: &[u8]| {
        if is_output(frame) {
            present.used(gateway.clock.now());
        }
    };
    let end = proxy::listen(terminal, hello.as_bytes(), printed).await;
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
