//! Keys that a user types become the Workspace's `lastAccessed`: at most one write a minute, and always the latest time.

use super::service::Gateway;
use crate::clock::until;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two writes for a workspace, whichever gateway made the last one.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// One terminal's activity. What was not written yet is written when this is dropped.
pub struct Activity {
    latest: watch::Sender<Timestamp>,
}

impl Activity {
    /// Begins with now: entering counts.
    pub fn begin(gateway: &Arc<Gateway>, workspace: &str) -> Self {
        let (latest, mut receiver) = watch::channel(gateway.clock.now());
        receiver.mark_changed();
        let writing = write(Arc::clone(gateway), workspace.to_owned(), receiver);
        gateway.drain.spawn(writing);
        Self { latest }
    }

    /// Costs no more than a store: it is called for every key.
    pub fn happened(&self, at: Timestamp) {
        self.latest.send_replace(at);
    }
}

async fn write(gateway: Arc<Gateway>, workspace: String, mut latest: watch::Receiver<Timestamp>) {
    let workspaces = &gateway.workspaces;
    let mut tried: Option<Timestamp> = None;
    // A value that came before the end of the channel is still given.
    while latest.changed().await.is_ok() {
        let last = workspaces.last_accessed(&workspace).max(tried);
        if let Some(last) = last {
            let pause = until(last + WRITE_EVERY, gateway.clock.now()).min(WRITE_EVERY);
            tokio::select! {
                () = sleep(pause) => {}
                () = ended(latest.clone()) => {}
            }
        }
        let at = *latest.borrow_and_update();
        tried = Some(gateway.clock.now());
        if let Err(error) = workspaces.record_activity(&workspace, at).await {
            tracing::warn!(workspace, %error, "can't write when a workspace was used; it may stop as idle");
        }
    }
}

/// Ends when the terminal does.
async fn ended(mut latest: watch::Receiver<Timestamp>) {
    while latest.changed().await.is_ok() {}
}
