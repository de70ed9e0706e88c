//! `devplane doctor recording`: verifies, lists and exports recordings, away from any cluster.

use super::doctor::INTERRUPTED;
use super::{printer, runtime};
use crate::doctor::fetch::{self, FetchError};
use crate::doctor::recording::{self, Filter, Format, RecordingError};
use crate::recording::seal::{KeyError, TrustedKeys};
use crate::serve::shutdown;
use crate::tls::{self, TlsError};
use crate::units::quantity::Quantity;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use rustls::ClientConfig;
use std::fs::DirBuilder;
use std::io::BufWriter;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use url::Url;

#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks chain, signatures, checkpoints, and whether sessions are missing; exits with 1 when something is wrong
    Verify {
        /// A directory with recordings, or a file of one session; or an http or https URL of a file of one session, of a ledger, or
        /// of a list of files, which ends with a slash
        #[arg(value_name = "PATH|URL")]
        place: String,
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        fetching: Fetching,
    },
    /// Prints a line for each session, its columns apart by tabs
    List {
        /// A directory with recordings
        path: PathBuf,
        /// Only sessions of this user: a user id, or the exact subject
        #[arg(long)]
        user: Option<String>,
        /// Only sessions that were open at or after this time, such as 2026-11-25T07:00:00Z
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
        /// Only sessions that began before this time
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
    },
    /// Writes what was seen in a session to standard output
    Export {
        /// A file of the session
        path: PathBuf,
        #[arg(long, value_enum)]
        format: FormatArgument,
        /// Export although the recording does not verify
        #[arg(long)]
        unverified: bool,
        #[command(flatten)]
        keys: Keys,
    },
}

/// For what is fetched.
#[derive(Args)]
struct Fetching {
    /// CA certificates (PEM) that are trusted besides the system's
    #[arg(long, env = "CA_BUNDLE_FILE", value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// The most that is fetched, such as 500Mi
    #[arg(long, default_value = "10Gi", value_name = "SIZE", value_parser = size)]
    max_size: u64,
    /// Where copies are kept while they are verified: in a directory that nobody else can read, and that is removed
    #[arg(long, env = "TMPDIR", default_value = "/tmp", value_name = "DIRECTORY")]
    scratch: PathBuf,
}

#[derive(Args)]
struct Keys {
    /// An Ed25519 public key (PEM) that signatures must be of; may be given several times. Without one no signature is checked
    #[arg(long = "public-key", value_name = "FILE")]
    public_keys: Vec<PathBuf>,
}

impl Keys {
    fn read(&self) -> Result<TrustedKeys, KeyError> {
        let mut keys = TrustedKeys::default();
        for path in &self.public_keys {
            keys.add(path)?;
        }
        Ok(keys)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatArgument {
    /// Version 2, for `asciinema play`
    Asciicast,
    /// Version 3, for `asciinema play` from version 3 on
    AsciicastV3,
    /// A transcript: each line that was on the screen, once, with its time
    Text,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::Verify { place, keys, fetching } => {
            with_keys(keys, |keys| verify(place, keys, fetching)).map_or_else(refuse, |(text, is_sound)| {
                printer::data(&text);
                if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            })
        }
        Command::List {
            path,
            user,
            since,
            until,
        } => {
            let filter = Filter {
                user: user.clone(),
                since: *since,
                until: *until,
            };
            recording::list(path, &filter).map_or_else(
                |error| refuse(error.into()),
                |text| {
                    printer::data(&text);
                    ExitCode::SUCCESS
                },
            )
        }
        Command::Export {
            path,
            format,
            unverified,
            keys,
        } => {
            let format = match format {
                FormatArgument::Asciicast => Format::Asciicast,
                FormatArgument::AsciicastV3 => Format::AsciicastV3,
                FormatArgument::Text => Format::Text,
            };
            let exported = with_keys(keys, |keys| {
                let mut out = BufWriter::new(printer::Pipe);
                recording::export(path, format, keys, *unverified, &mut out)
            });
            exported.map_or_else(refuse, |()| ExitCode::SUCCESS)
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    let quantity: Option<Quantity> = text.parse().ok();
    let bytes = quantity.and_then(|quantity| quantity.bytes());
    bytes.ok_or_else(|| "a size of at least one byte, such as 500Mi".to_owned())
}

/// Why nothing came of it.
enum Refusal {
    Key(KeyError),
    Recording(RecordingError),
    Fetch(FetchError),
    Tls(TlsError),
    Runtime(anyhow::Error),
    /// By SIGINT or SIGTERM.
    Interrupted,
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<RecordingError> for Refusal {
    fn from(error: RecordingError) -> Self {
        Self::Recording(error)
    }
}

fn with_keys<T, E: Into<Refusal>>(keys: &Keys, run: impl FnOnce(&TrustedKeys) -> Result<T, E>) -> Result<T, Refusal> {
    let keys = keys.read().map_err(Refusal::Key)?;
    run(&keys).map_err(Into::into)
}

/// What is at a URL is copied first. The copies go when it is interrupted, too.
fn verify(place: &str, keys: &TrustedKeys, fetching: &Fetching) -> Result<(String, bool), Refusal> {
    if !fetch::is_url(place) {
        return Ok(recording::verify(Path::new(place), keys)?);
    }
    let Fetching {
        ca_bundle,
        max_size,
        scratch,
    } = fetching;
    let url = fetch::address(place)?;
    let tls = tls::client(ca_bundle.as_deref()).map_err(Refusal::Tls)?;
    let verified = verify_copies(&url, tls, scratch, *max_size, keys);
    let runtime = runtime().map_err(Refusal::Runtime)?;
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            () = shutdown::signal() => Err(Refusal::Interrupted),
            result = verified => result,
        }
    });
    // What is still being verified is waited for by nobody.
    runtime.shutdown_background();
    result
}

async fn verify_copies(
    url: &Url,
    tls: ClientConfig,
    scratch: &Path,
    max_size: u64,
    keys: &TrustedKeys,
) -> Result<(String, bool), Refusal> {
    let copies = Scratch::new(scratch)?;
    let session = fetch::fetch(url, tls, &copies.0, max_size).await?;
    let path = session.map_or_else(|| copies.0.clone(), |files| files.manifest());
    let keys = keys.clone();
    let verified = tokio::task::spawn_blocking(move || recording::verify(&path, &keys)).await;
    let verified = verified.map_err(|error| Refusal::Runtime(error.into()))?;
    Ok(verified?)
}

/// A directory for a while, that nobody else can read.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> Result<Self, FetchError> {
        let path = parent.join(format!("devplane-verify-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about it here.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn refuse(refusal: Refusal) -> ExitCode {
    if matches!(refusal, Refusal::Interrupted) {
        return ExitCode::from(INTERRUPTED);
    }
    let is_usage = refusal.is_usage();
    let hint = refusal.hint();
    printer::error(&refusal.into(), hint);
    if is_usage {
        ExitCode::from(64)
    } else {
        ExitCode::FAILURE
    }
}

impl Refusal {
    fn is_usage(&self) -> bool {
        match self {
            Self::Key(_) | Self::Tls(_) => true,
            Self::Fetch(error) => matches!(error, FetchError::Address { .. } | FetchError::Nothing { .. }),
            Self::Recording(error) => error.is_usage(),
            Self::Runtime(_) | Self::Interrupted => false,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Key(_) => "give the public key, not the one that signs",
            Self::Tls(_) => "--ca-bundle names a file with certificates in PEM form",
            Self::Fetch(FetchError::Address { .. }) => {
                "give the URL of a manifest, of a ledger, or of a directory with a slash at its end"
            }
            Self::Fetch(FetchError::TooLarge { .. }) => "--max-size allows more",
            Self::Fetch(FetchError::Connect { .. }) => {
                "--ca-bundle names certificates that are trusted besides the system's"
            }
            Self::Fetch(FetchError::Status { status, .. }) if status.is_redirection() => {
                "redirects are not followed: give the address that it is redirected to"
            }
            Self::Recording(RecordingError::NoRecording { .. }) => {
                "give a directory, or a file such as session-20261125T072312Z-0123456789abcdef.manifest.json"
            }
            Self::Recording(RecordingError::NotGenuine { .. }) => {
                "`devplane doctor recording verify` says all of it; --unverified exports what can be read"
            }
            _ => return None,
        })
    }
}

impl From<Refusal> for anyhow::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Key(error) => error.into(),
            Refusal::Recording(error) => error.into(),
            Refusal::Fetch(error) => error.into(),
            Refusal::Tls(error) => error.into(),
            Refusal::Runtime(error) => error,
            Refusal::Interrupted => anyhow::anyhow!("interrupted"),
        }
    }
}
