//! What a pod has tried becomes one line of JSON, for whoever connects to its report port.

use super::dial::{LONGEST_ATTEMPT, Observed};
use super::place::Place;
use serde::{Deserialize, Serialize};
use snafu::{ResultExt, Snafu};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

/// The attempts are made while one waits; somebody else may be waiting too.
const LONGEST_REPORT: Duration = LONGEST_ATTEMPT.saturating_mul(2).saturating_add(Duration::from_secs(2));
const MOST_BYTES: u64 = 16_384;

/// What a canary has tried, a moment ago.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// Its own terminal port, which the packets need not leave the pod for.
    pub own_terminal: Observed,
    /// The cluster's DNS, which every workspace may ask.
    pub names: Observed,
    /// The API server, which no workspace may reach.
    pub api_server: Observed,
    /// Where it has looked for the API server.
    pub api_server_address: SocketAddr,
    /// Other places that it was told of, as those of a probe are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Tried>,
}

/// Another place that a canary has tried.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tried {
    pub place: Place,
    pub observed: Observed,
}

/// Why there is none.
#[derive(Debug, Snafu)]
pub enum ReportError {
    #[snafu(display("no connection to the canary at {address} ({source})"))]
    Connect {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[snafu(display("the canary at {address} has not answered in time ({source})"))]
    Late { address: SocketAddr, source: Elapsed },
    #[snafu(display("the canary at {address} has broken off ({source})"))]
    Read {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[snafu(display("what answers at {address} is no canary of this version ({source})"))]
    Content {
        address: SocketAddr,
        source: serde_json::Error,
    },
}

impl Report {
    /// As it is sent.
    pub fn line(&self) -> String {
        // Words and an address: they always fit.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Has a canary try everything, and waits for what comes of it.
    ///
    /// # Errors
    /// When nobody is there, or no canary.
    pub async fn fetch(address: SocketAddr) -> Result<Self, ReportError> {
        let fetched = timeout(LONGEST_REPORT, async {
            let stream = TcpStream::connect(address).await.context(ConnectSnafu { address })?;
            let mut text = Vec::new();
            let mut stream = stream.take(MOST_BYTES);
            stream.read_to_end(&mut text).await.context(ReadSnafu { address })?;
            serde_json::from_slice(&text).context(ContentSnafu { address })
        });
        fetched.await.context(LateSnafu { address })?
    }
}
