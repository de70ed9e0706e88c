//! `devplane doctor recording`: verifies, lists and exports recordings, away from any cluster.

use super::{printer, runtime};
use crate::doctor::fetch::{self, FetchError};
use crate::doctor::recording::{self, Filter, Format, RecordingError};
use crate::recording::seal::{KeyError, TrustedKeys};
use crate::tls::{self, TlsError};
use crate::units::quantity::Quantity;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use std::fs::DirBuilder;
use std::io::BufWriter;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

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
    Runtime,
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

/// What is at a URL is copied first.
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
    let copies = Scratch::new(scratch)?;
    let runtime = runtime().map_err(|_| Refusal::Runtime)?;
    let session = runtime.block_on(fetch::fetch(&url, tls, &copies.0, *max_size))?;
    let path = session.map_or_else(|| copies.0.clone(), |files| files.manifest());
    Ok(recording::verify(&path, keys)?)
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
    match refusal {
        Refusal::Key(error) => {
            printer::error(&error.into(), Some("give the public key, not the one that signs"));
            ExitCode::from(64)
        }
        Refusal::Fetch(error) => {
            let is_usage = matches!(error, FetchError::Address { .. } | FetchError::Nothing { .. });
            let hint = match &error {
                FetchError::Address { .. } => {
                    Some("give the URL of a manifest, of a ledger, or of a directory with a slash at its end")
                }
                FetchError::TooLarge { .. } => Some("--max-size allows more"),
                FetchError::Connect { .. } => {
                    Some("--ca-bundle names certificates that are trusted besides the system's")
                }
                FetchError::Status { status, .. } if status.is_redirection() => {
                    Some("redirects are not followed: give the address that it is redirected to")
                }
                _ => None,
            };
            printer::error(&error.into(), hint);
            if is_usage {
                ExitCode::from(64)
            } else {
                ExitCode::FAILURE
            }
        }
        Refusal::Runtime => ExitCode::FAILURE,
        Refusal::Tls(error) => {
            printer::error(
                &error.into(),
                Some("--ca-bundle names a file with certificates in PEM form"),
            );
            ExitCode::from(64)
        }
        Refusal::Recording(error) => {
            let is_usage = error.is_usage();
            let hint = match &error {
                RecordingError::NoRecording { .. } => {
                    Some("give a directory, or a file such as session-20261125T072312Z-0123456789abcdef.manifest.json")
                }
                RecordingError::NotGenuine { .. } => {
                    Some("`devplane doctor recording verify` says all of it; --unverified exports what can be read")
                }
                _ => None,
            };
            printer::error(&error.into(), hint);
            if is_usage {
                ExitCode::from(64)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
