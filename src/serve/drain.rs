//! The end of serving becomes a signal to every open connection, and a wait for them.
//!
//! An upgraded connection has left the HTTP server, whose own graceful end does not know of it any more. So everything
//! that serves someone is tracked here: connections and what became of them.

use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Everything that serves someone.
#[derive(Clone, Default)]
pub struct Drain {
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Drain {
    /// Runs a task that [`Drain::finish`] waits for. The task is to end soon after [`Drain::stopping`] does.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Ends when serving is to end.
    pub async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    /// Tells every task to end and waits for them; gives the number that did not end in time.
    pub async fn finish(self, limit: Duration) -> usize {
        self.stopping.cancel();
        self.tasks.close();
        let _ = timeout(limit, self.tasks.wait()).await;
        self.tasks.len()
    }
}
