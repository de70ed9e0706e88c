//! A condition that something else brings about becomes true, or a test fails.

use std::time::{Duration, Instant};

/// Asks every 50 ms, for at most a minute.
pub async fn eventually(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if holds().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}
