//! A pod that has just started becomes one that is policed.

use super::dial::{Asks, Observed, Target, dial};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Where nobody enforces policies, nothing is ever refused.
const AT_MOST: Duration = Duration::from_secs(30);
/// A plugin that lets nothing through until it has heard of a pod takes about as long as one that lets everything through.
const AFTERWARDS: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(500);

/// Waits until `closed`, where policies let no workspace get, refuses a connection, and a moment longer.
pub async fn settle(closed: SocketAddr) {
    let target = Target {
        address: closed,
        asks: Asks::Http,
    };
    let refused = async {
        while dial(target).await == Observed::Answered {
            sleep(AGAIN).await;
        }
    };
    let _ = timeout(AT_MOST, refused).await;
    sleep(AFTERWARDS).await;
}
