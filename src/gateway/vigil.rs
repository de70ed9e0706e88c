//! A session that something was opened with becomes the moment at which it is over: no terminal outlives its session.

use super::authn::Caller;
use super::refresh::refresh;
use super::service::Gateway;
use super::standing::{Over, Standing};
use crate::api::Workspace;
use crate::clock::until;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks at a session that is due while the provider or the API server does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Ends when the caller's session does, and says why. Until then the provider is asked when that is due, as for a request.
/// `used` tells when what was opened was last used, if ever: that it is open is no use.
pub async fn over(
    gateway: &Arc<Gateway>,
    caller: &Caller,
    workspace: &str,
    used: impl Fn() -> Option<Timestamp>,
) -> Over {
    let seen = caller.session.as_ref().map(|session| session.seen);
    let used = || used().max(seen).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut followed = gateway.workspaces.follow(workspace);
    loop {
        let now = gateway.clock.now();
        let current = followed.borrow_and_update().clone();
        let standing = match caller.standing(gateway, current.as_deref(), used(), now) {
            Ok(standing) => standing,
            Err(over) => return over,
        };
        let mut wake = standing.confirmed_until;
        if let (Some(session), Some(due)) = (&caller.session, standing.refresh_at) {
            if due <= now {
                let is_over = |workspace: &Option<Arc<Workspace>>| {
                    let now = gateway.clock.now();
                    caller.standing(gateway, workspace.as_deref(), used(), now).is_err()
                };
                let asking = async {
                    refresh(gateway, session, workspace, used(), true).await;
                    sleep(PAUSE).await;
                };
                tokio::select! {
                    () = asking => {}
                    // The provider may be slow, and an administrator quicker.
                    _ = followed.wait_for(is_over) => {}
                }
                continue;
            }
            wake = wake.min(due);
        }
        tokio::select! {
            changed = followed.changed() => if changed.is_err() {
                // Nobody tells any more: the gateway is stopping.
                std::future::pending().await
            },
            () = sleep(until(wake, now)) => {}
        }
    }
}

impl Caller {
    /// How the caller's session or token stands, `workspace` being their own.
    ///
    /// # Errors
    /// When it is over, or was not confirmed in time: what is open does not stay so on trust.
    pub fn standing(
        &self,
        gateway: &Gateway,
        workspace: Option<&Workspace>,
        used: Timestamp,
        now: Timestamp,
    ) -> Result<Standing, Over> {
        match &self.session {
            Some(session) => gateway
                .workspaces
                .session_stands(session, workspace, used, now)?
                .confirmed(now),
            None => gateway.workspaces.token_stands(&self.person, workspace, now),
        }
    }
}
