//! SIGTERM and SIGINT become a future.

use tokio::signal::unix::{SignalKind, signal as listen};

/// Ends at the first SIGTERM (Kubernetes) or SIGINT (Ctrl-C).
pub async fn signal() {
    match (listen(SignalKind::terminate()), listen(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the signals keep their default: they end the process.
        _ => std::future::pending().await,
    }
}
