//! A URL becomes a directory with copies of the recordings that are there, for who verifies them away from where they are kept.
//!
//! Any server of static files will do: a file is asked for by its name beside the one that was given. The server is not believed
//! anything: its answers are bounded in size and time, it sends nobody elsewhere, and what it names is taken for a name only when
//! it looks like one of ours.

use crate::causes::with_causes;
use crate::recording::layout::{Contents, Files, is_plain, ledger, ledger_of, session_of};
use crate::recording::ledger::{Entry, Happened};
use crate::recording::read::{Line, Lines};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::{Response, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use snafu::{OptionExt, ResultExt, Snafu, ensure};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;
use url::Url;

/// For an answer to begin, and for each piece of it to come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a list of files, in bytes.
const MAX_INDEX: u64 = 32 << 20;

/// Why recordings can't be had.
#[derive(Debug, Snafu)]
pub enum FetchError {
    #[snafu(display(
        "{url} is no address to fetch recordings from: expected http or https, a host and a path, no user, query or fragment"
    ))]
    Address { url: String },
    #[snafu(display("can't reach {url}: {}", with_causes(source)))]
    Connect {
        url: String,
        source: hyper_util::client::legacy::Error,
    },
    #[snafu(display("{url} does not answer: nothing came for {} s", PATIENCE.as_secs()))]
    Slow { url: String },
    #[snafu(display("{url} is answered with the HTTP status {status}"))]
    Status { url: String, status: StatusCode },
    #[snafu(display("the answer of {url} broke off: {}", with_causes(source)))]
    BrokenOff { url: String, source: hyper::Error },
    #[snafu(display("{url} is too large: {limit} bytes are left of what may be fetched"))]
    TooLarge { url: String, limit: u64 },
    #[snafu(display("there are no recordings at {url}"))]
    Nothing { url: String },
    #[snafu(display("can't keep what was fetched: {source}"), context(false))]
    Keep { source: io::Error },
}

/// What an address is of.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// One session, by any of its files.
    Session(String),
    /// A ledger, which names sessions and other ledgers.
    Ledger(String),
    /// A list of files, in whatever form.
    Directory,
}

impl Place {
    fn of(url: &Url) -> Option<Self> {
        let name = url.path_segments()?.next_back()?;
        if name.is_empty() {
            return Some(Self::Directory);
        }
        let session = session_of(name).map(|id| Self::Session(id.to_owned()));
        let ledger = || ledger_of(name).map(|gateway| Self::Ledger(gateway.to_owned()));
        session.or_else(ledger).filter(|_| is_plain(name))
    }
}

/// Whether an argument is a URL rather than a path.
pub fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// The address that an argument is.
///
/// # Errors
/// When it is none of recordings.
pub fn address(text: &str) -> Result<Url, FetchError> {
    let parsed = Url::parse(text).ok().filter(|url| {
        is_url(text)
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && Place::of(url).is_some()
    });
    // Not with what may be a password.
    let shown = || text.split(['?', '#']).next().unwrap_or_default();
    parsed.with_context(|| AddressSnafu {
        url: match shown().rsplit_once('@') {
            Some((_, host)) => format!("…@{host}"),
            None => shown().to_owned(),
        },
    })
}

/// Copies what `url` speaks of into the empty directory `into`, at most `limit` bytes. Gives the session, when it is one alone.
///
/// # Errors
/// When something is there and can't be had. That a file is not there is for who verifies to say.
pub async fn fetch(url: &Url, tls: ClientConfig, into: &Path, limit: u64) -> Result<Option<Files>, FetchError> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    let mut copy = Copy {
        client: Client::builder(TokioExecutor::new()).build(connector),
        base: url,
        into,
        left: limit,
        ledgers: BTreeSet::new(),
        sessions: BTreeSet::new(),
    };
    let place = Place::of(url).context(AddressSnafu { url: url.as_str() })?;
    match place {
        Place::Session(id) => {
            let files = Files::new(into, &id);
            let is_there = copy.session(&files).await?;
            ensure!(is_there, NothingSnafu { url: url.as_str() });
            return Ok(Some(files));
        }
        Place::Ledger(gateway) => copy.ledger(&gateway).await?,
        Place::Directory => {
            for gateway in copy.index().await?.gateways {
                copy.ledger(&gateway).await?;
            }
        }
    }
    for id in copy.sessions.clone() {
        copy.session(&Files::new(into, &id)).await?;
    }
    ensure!(into.read_dir()?.next().is_some(), NothingSnafu { url: url.as_str() });
    Ok(None)
}

/// Files as they are copied.
struct Copy<'a> {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    base: &'a Url,
    into: &'a Path,
    left: u64,
    /// Those that were asked for.
    ledgers: BTreeSet<String>,
    /// Those that there must be.
    sessions: BTreeSet<String>,
}

impl Copy<'_> {
    /// The names in a list of files: HTML, JSON and XML have them all as words.
    async fn index(&mut self) -> Result<Contents, FetchError> {
        let url = self.base.clone();
        let mut text = Vec::new();
        let answer = self.ask(&url).await?;
        let status = answer.status();
        ensure!(
            status == StatusCode::OK,
            StatusSnafu {
                url: url.as_str(),
                status
            }
        );
        self.read(&url, answer, MAX_INDEX, &mut text).await?;
        let mut contents = Contents::default();
        let text = String::from_utf8_lossy(&text);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))) {
            contents.add(word);
        }
        self.sessions.extend(contents.sessions.iter().cloned());
        Ok(contents)
    }

    /// A ledger, and the earlier ones that it has seen.
    async fn ledger(&mut self, gateway: &str) -> Result<(), FetchError> {
        let mut wanted = vec![gateway.to_owned()];
        while let Some(gateway) = wanted.pop() {
            let path = ledger(self.into, &gateway);
            if !self.ledgers.insert(gateway) || !self.file(&path).await? {
                continue;
            }
            let mut lines = Lines::of(File::open(path)?);
            // What is wrong with a line is for who verifies to say.
            while let Some(Line::Whole(line)) = lines.next_line()? {
                match serde_json::from_slice(line).map(|entry: Entry| entry.happened) {
                    Ok(Happened::Opened { session, .. }) if is_plain(&session) => drop(self.sessions.insert(session)),
                    Ok(Happened::Started { seen }) => {
                        let seen = seen.into_iter().map(|seen| seen.gateway);
                        wanted.extend(seen.filter(|gateway| is_plain(gateway)));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether there is anything of it.
    async fn session(&mut self, files: &Files) -> Result<bool, FetchError> {
        let [records, compressed, checkpoints, manifest] = files.all();
        // As they can be copied while they are written.
        let (checkpoints, manifest) = (self.file(&checkpoints).await?, self.file(&manifest).await?);
        let records = self.file(&records).await? || self.file(&compressed).await?;
        Ok(checkpoints || manifest || records)
    }

    /// Whether it is there.
    async fn file(&mut self, path: &Path) -> Result<bool, FetchError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let url = self.base.join(name).ok().with_context(|| AddressSnafu { url: name })?;
        let answer = self.ask(&url).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(false),
            status => {
                return StatusSnafu {
                    url: url.as_str(),
                    status,
                }
                .fail();
            }
        }
        // What was said in a terminal is nobody else's business.
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        self.read(&url, answer, self.left, &mut file).await?;
        Ok(true)
    }

    async fn ask(&self, url: &Url) -> Result<Response<Incoming>, FetchError> {
        let uri = url.as_str().parse().ok();
        let uri = uri.with_context(|| AddressSnafu { url: url.as_str() })?;
        let answer = timeout(PATIENCE, self.client.get(uri)).await.ok();
        let answer = answer.with_context(|| SlowSnafu { url: url.as_str() })?;
        answer.with_context(|_| ConnectSnafu { url: url.as_str() })
    }

    async fn read(
        &mut self,
        url: &Url,
        answer: Response<Incoming>,
        limit: u64,
        out: &mut dyn Write,
    ) -> Result<(), FetchError> {
        let limit = limit.min(self.left);
        let (mut body, mut read) = (answer.into_body(), 0);
        loop {
            let next = timeout(PATIENCE, body.frame()).await.ok();
            let Some(frame) = next.with_context(|| SlowSnafu { url: url.as_str() })? else {
                break;
            };
            let frame = frame.with_context(|_| BrokenOffSnafu { url: url.as_str() })?;
            let Ok(bytes) = frame.into_data() else { continue };
            read += bytes.len() as u64;
            ensure!(
                read <= limit,
                TooLargeSnafu {
                    url: url.as_str(),
                    limit
                }
            );
            out.write_all(&bytes)?;
        }
        self.left -= read;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_session_a_ledger_or_a_directory() {
        let session = "session-20261125T072312Z-0123456789abcdef";
        let of = |text: &str| Place::of(&address(text).unwrap()).unwrap();
        for ending in ["manifest.json", "ndjson", "ndjson.zst", "checkpoints.ndjson"] {
            let url = format!("https://store.test/a/{session}.{ending}");
            assert_eq!(of(&url), Place::Session(session.to_owned()));
        }
        assert_eq!(of("http://h/ledger-g-1.ndjson"), Place::Ledger("g-1".to_owned()));
        assert_eq!(of("https://h/recordings/"), Place::Directory);
        assert_eq!(of("https://h"), Place::Directory);
        for wrong in [
            "https://h/recordings",
            "https://user:planted@h/",
            "https://user@h/",
            "https://h/?token=planted",
            "https://h/#x",
            "ftp://h/",
            "https://h/session-%2e%2e%2f.ndjson",
            "https://",
        ] {
            let error = address(wrong).unwrap_err().to_string();
            assert!(!error.contains("planted"), "{error}");
        }
    }
}
