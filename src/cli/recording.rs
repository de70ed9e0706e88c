//! `devplane doctor recording`: verifies, lists and exports recordings, away from any cluster.

use super::printer;
use crate::doctor::recording::{self, Filter, Format, RecordingError};
use crate::recording::seal::{KeyError, TrustedKeys};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use std::io::BufWriter;
use std::path::PathBuf;
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
        /// A directory with recordings, or a file of one session
        path: PathBuf,
        #[command(flatten)]
        keys: Keys,
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
        Command::Verify { path, keys } => {
            with_keys(keys, |keys| recording::verify(path, keys)).map_or_else(refuse, |(text, is_sound)| {
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

/// Why nothing came of it.
enum Refusal {
    Key(KeyError),
    Recording(RecordingError),
}

impl From<RecordingError> for Refusal {
    fn from(error: RecordingError) -> Self {
        Self::Recording(error)
    }
}

fn with_keys<T>(keys: &Keys, run: impl FnOnce(&TrustedKeys) -> Result<T, RecordingError>) -> Result<T, Refusal> {
    let keys = keys.read().map_err(Refusal::Key)?;
    Ok(run(&keys)?)
}

fn refuse(refusal: Refusal) -> ExitCode {
    match refusal {
        Refusal::Key(error) => {
            printer::error(&error.into(), Some("give the public key, not the one that signs"));
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
