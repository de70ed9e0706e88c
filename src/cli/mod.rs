//! The command line becomes a role that runs, and its end an exit code.
//!
//! Exit codes: 0 ok, 1 failed, 64 bad configuration or usage (`EX_USAGE` of BSD's sysexits), 130 a doctor's run that
//! was interrupted.

mod canary;
mod crd_gen;
mod doctor;
mod gateway;
mod operator;
mod printer;
mod recording;

use crate::config::setting::{LOG_FORMAT, LOG_LEVEL, Setting};
use crate::config::source::FileError;
use crate::config::{Problems, Source};
use crate::telemetry::log;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// The version that `--version` prints: the crate's, and the commit that it was built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("DEVPLANE_COMMIT"), ")");

/// Isolated, persistent browser terminals for each signed-in user of a closed Kubernetes cluster.
///
/// One executable plays every role: the operator and the gateway run in the cluster, the others on a terminal.
#[derive(Parser)]
#[command(name = "devplane", version = VERSION, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Makes each Workspace's pod, volume, Service and policies, and keeps them as they should be
    Operator(operator::Arguments),
    /// Signs users in and brings their browsers to their terminals
    Gateway(gateway::Arguments),
    /// Is a pod that is policed like a workspace, and tells the operator what it gets to reach
    Canary(canary::Arguments),
    /// Prints the CustomResourceDefinition, for `kubectl apply --server-side -f -`
    CrdGen,
    /// Checks an installation and says what to mend
    Doctor(doctor::Arguments),
}

/// The configuration file, for every role that has settings.
#[derive(Args)]
struct ConfigFile {
    /// A YAML file with settings; environment variables win over it
    #[arg(long, env = "DEVPLANE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The settings of a role from defaults, this file, and `overrides` (flags) before the environment.
    fn load(&self, settings: &[Setting], overrides: &[(&Setting, Option<String>)]) -> Result<Source, FileError> {
        Source::load(self.config.as_deref(), settings, |name| {
            let flag = overrides
                .iter()
                .find(|(setting, value)| setting.env == name && value.is_some());
            flag.and_then(|(_, value)| value.clone()).or_else(|| environment(name))
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one reader of the environment; everything else is given its settings"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Why a role did not end well.
enum Failure {
    /// Usage or configuration: exit code 64.
    Usage(anyhow::Error),
    /// Everything else: exit code 1.
    Failed(anyhow::Error),
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        Self::Usage(error.into())
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Usage(problems.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// Parses the command line and runs the role that it names.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            // A closed pipe behind --help is no failure.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.role {
        Role::Operator(arguments) => operator::run(&arguments),
        Role::Gateway(arguments) => gateway::run(&arguments),
        Role::Canary(arguments) => canary::run(&arguments),
        Role::CrdGen => crd_gen::run(),
        Role::Doctor(arguments) => return doctor::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => {
            printer::error(
                &error,
                Some("`devplane ROLE --help` lists every setting with its default"),
            );
            ExitCode::from(64)
        }
        Err(Failure::Failed(error)) => {
            printer::error(&error, None);
            ExitCode::FAILURE
        }
    }
}

/// Starts the log of a long-running role.
fn start_log(source: &Source) -> Result<(), Problems> {
    let mut reader = crate::config::reader::Reader::new(source, &[]);
    reader.forget_problems();
    let directives = reader.parse(&LOG_LEVEL, |text| match log::check_directives(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error) => Err(format!("a level such as info, or directives ({error})")),
    });
    let format = reader.parse(&LOG_FORMAT, |text| match text {
        "json" => Ok(log::Format::Json),
        "text" => Ok(log::Format::Text),
        _ => Err("json or text".to_owned()),
    });
    let config = directives
        .zip(format)
        .map(|(directives, format)| log::LogConfig { directives, format });
    let config = reader.finish(config)?;
    // The directives were checked above.
    let _ = log::install(&config);
    Ok(())
}

/// The asynchronous runtime of a role: one thread for each core.
fn runtime() -> anyhow::Result<Runtime> {
    started(Builder::new_multi_thread())
}

/// With one thread only.
fn single_threaded_runtime() -> anyhow::Result<Runtime> {
    started(Builder::new_current_thread())
}

fn started(mut builder: Builder) -> anyhow::Result<Runtime> {
    builder
        .enable_all()
        .build()
        .context("can't start the asynchronous runtime")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
