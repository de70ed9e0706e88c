//! A pod that is policed like a workspace becomes a witness: it listens where a workspace does, and tries what a workspace may not.
//!
//! Nothing is kept and nothing is told without being asked: whoever connects to the report port waits while the attempts are made. It speaks
//! with nobody of its own accord, and has no right at all in the cluster.

use crate::config::CanaryConfig;
use crate::connectivity::canary::{Ports, Question};
use crate::connectivity::dial::Asks;
use crate::connectivity::report::Tried;
use crate::connectivity::resolver::{RESOLV_CONF, name_server};
use crate::connectivity::{self, Outcome, Report, Target, Verdict, dial::dial};
use crate::names::{CANARY_REPORT_PORT, TERMINAL_PORT};
use crate::serve::listener::{ListenError, listen};
use crate::serve::shutdown;
use futures::future::join_all;
use snafu::{OptionExt, ResultExt, Snafu};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

pub use crate::connectivity::Place;

/// What is said at the terminal port, to anybody.
const GREETING: &[u8] = b"devplane canary: this is no terminal\n";

/// For what is said to leave.
const LONGEST_WRITE: Duration = Duration::from_secs(2);

/// After a failure of `accept`, most likely too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Reports are made one after the other, and what came in meanwhile waits; no more often than this.
const BETWEEN_REPORTS: Duration = Duration::from_millis(200);

const DNS_PORT: u16 = 53;

/// Why it does not run.
#[derive(Debug, Snafu)]
pub enum CanaryError {
    #[snafu(display("{source}"), context(false))]
    Listen { source: ListenError },
    #[snafu(display("can't read {}: {source}", path.display()))]
    Resolver { path: PathBuf, source: io::Error },
    #[snafu(display("{} has no line `nameserver ADDRESS`: set CANARY_NAME_SERVER", path.display()))]
    NoNameServer { path: PathBuf },
}

/// Runs until SIGTERM or SIGINT. `places` are tried too, for each report.
///
/// # Errors
/// When a port can't be listened on, or it is not known where names are resolved.
pub async fn run(config: CanaryConfig, places: Vec<Place>) -> Result<(), CanaryError> {
    let name_server = resolver_of(&config)?;
    let CanaryConfig {
        address, api_server, ..
    } = config;
    let terminal = listen((address, TERMINAL_PORT).into()).await?;
    let report = listen((address, CANARY_REPORT_PORT).into()).await?;
    tracing::info!(%api_server, %name_server, "the canary listens");
    let tries = Tries {
        own_terminal: (loopback(address), TERMINAL_PORT).into(),
        name_server,
        api_server,
        places,
    };
    tokio::select! {
        () = greet(terminal) => {}
        () = tell(report, tries) => {}
        () = shutdown::signal() => {}
    }
    Ok(())
}

/// How long a canary that was just made may take until its policies hold.
const SETTLES_WITHIN: Duration = Duration::from_secs(30);
const BETWEEN_ROUNDS: Duration = Duration::from_secs(2);

/// Asks the canary at `addresses`, which was told of the same `places`, until policies are shown to be enforced, or it has had its time.
///
/// # Errors
/// When it is not known where names are resolved.
pub async fn ask(config: &CanaryConfig, addresses: &[IpAddr], places: &[Place]) -> Result<Outcome, CanaryError> {
    let question = Question {
        who: "another pod",
        addresses,
        ports: Ports {
            terminal: TERMINAL_PORT,
            report: CANARY_REPORT_PORT,
        },
        api_server: config.api_server,
        places,
        name_server: Some(resolver_of(config)?),
    };
    let until = Instant::now() + SETTLES_WITHIN;
    loop {
        let outcome = Outcome::of(connectivity::canary::ask(question).await);
        if outcome.verdict == Verdict::Enforced || Instant::now() > until {
            return Ok(outcome);
        }
        sleep(BETWEEN_ROUNDS).await;
    }
}

/// As it is set, or the first of the resolver's servers.
fn resolver_of(config: &CanaryConfig) -> Result<SocketAddr, CanaryError> {
    config.name_server.map_or_else(|| resolver(RESOLV_CONF.into()), Ok)
}

/// An address at which a listener on `address` hears itself.
fn loopback(address: IpAddr) -> IpAddr {
    match address {
        // The unspecified one of IPv6 hears IPv4 too, and every pod has its loopback.
        any if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The first of the resolver's servers.
fn resolver(path: PathBuf) -> Result<SocketAddr, CanaryError> {
    let text = std::fs::read_to_string(&path).context(ResolverSnafu { path: &path })?;
    let address = name_server(&text).context(NoNameServerSnafu { path })?;
    Ok((address, DNS_PORT).into())
}

/// Says who is there, at the terminal port.
async fn greet(listener: TcpListener) {
    loop {
        let Some(stream) = accept(&listener).await else {
            continue;
        };
        tokio::spawn(say(stream, GREETING.to_vec()));
    }
}

/// Tries everything for each that connects to the report port, and says what came of it.
async fn tell(listener: TcpListener, tries: Tries) {
    loop {
        let Some(stream) = accept(&listener).await else {
            continue;
        };
        let report = tries.report().await;
        tracing::debug!(?report, "the canary has tried");
        tokio::spawn(say(stream, report.line().into_bytes()));
        sleep(BETWEEN_REPORTS).await;
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "can't take a connection");
            sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

async fn say(mut stream: TcpStream, words: Vec<u8>) {
    // Whoever has gone does not want to know.
    let _ = timeout(LONGEST_WRITE, async {
        stream.write_all(&words).await?;
        stream.shutdown().await
    })
    .await;
}

/// What it tries.
struct Tries {
    own_terminal: SocketAddr,
    name_server: SocketAddr,
    api_server: SocketAddr,
    places: Vec<Place>,
}

impl Tries {
    async fn report(&self) -> Report {
        let Self {
            own_terminal,
            name_server,
            api_server,
            ref places,
        } = *self;
        let to = |address, asks| dial(Target { address, asks });
        let to_places = places.iter().map(|place| async move {
            Tried {
                place: place.clone(),
                observed: dial(place.target(TERMINAL_PORT)).await,
            }
        });
        let (own_terminal, names, observed, places) = tokio::join!(
            to(own_terminal, Asks::Nothing),
            to(name_server, Asks::Name),
            to(api_server, Asks::Http),
            join_all(to_places),
        );
        Report {
            own_terminal,
            names,
            api_server: observed,
            api_server_address: api_server,
            places,
        }
    }
}
