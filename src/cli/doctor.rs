//! `devplane doctor`: runs the checks, prints their findings, and exits by them; or looks into recordings.

use super::{ConfigFile, printer, recording, runtime};
use crate::cluster::client;
use crate::config::{gateway, operator};
use crate::doctor::{self, Configuration, Role, Status};
use clap::{Args, Subcommand, ValueEnum};
use std::process::ExitCode;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    file: ConfigFile,
    /// Whose configuration and permissions to check
    #[arg(long, env = "DEVPLANE_DOCTOR_ROLE", value_enum, default_value = "operator")]
    role: RoleArgument,
}

#[derive(Subcommand)]
enum Command {
    /// Verifies, lists and exports recordings of sessions
    Recording(recording::Arguments),
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArgument {
    Operator,
    Gateway,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    if let Some(Command::Recording(arguments)) = &arguments.command {
        return recording::run(arguments);
    }
    let role = match arguments.role {
        RoleArgument::Operator => Role::Operator,
        RoleArgument::Gateway => Role::Gateway,
    };
    let settings = match role {
        Role::Operator => operator::SETTINGS,
        Role::Gateway => gateway::SETTINGS,
    };
    let source = match arguments.file.load(settings, &[]) {
        Ok(source) => source,
        Err(error) => {
            printer::error(&error.into(), Some("give --config a readable YAML file"));
            return ExitCode::from(64);
        }
    };
    let configuration = Configuration::of(role, &source);
    let Ok(runtime) = runtime() else {
        return ExitCode::FAILURE;
    };
    let findings = runtime.block_on(async { doctor::run(&configuration, client::connect().await).await });
    printer::data(&doctor::report::text(&findings));
    if findings
        .iter()
        .any(|finding| matches!(finding.status, Status::Fail { .. }))
    {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
