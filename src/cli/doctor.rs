//! `devplane doctor`: runs the checks, prints their findings, and exits by them; or lists images, or looks into recordings.

use super::{ConfigFile, printer, recording, runtime};
use crate::cluster::client;
use crate::config::{gateway, operator};
use crate::doctor::values::Values;
use crate::doctor::{self, Configuration, Role, Status, images};
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;
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
    /// Lists every image that an installation runs, for copying them into a closed network
    Images(ImagesArguments),
}

#[derive(Args)]
struct ImagesArguments {
    /// A values file as helm gets it; several are merged in their order
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,
    /// text: a reference a line; json: with registry, repository, tag, digest, and what runs the image
    #[arg(long, short, value_enum, default_value = "text")]
    output: OutputArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum OutputArgument {
    Text,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArgument {
    Operator,
    Gateway,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Some(Command::Recording(arguments)) => return recording::run(arguments),
        Some(Command::Images(arguments)) => return list_images(arguments),
        None => {}
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

fn list_images(arguments: &ImagesArguments) -> ExitCode {
    let listed = Values::load(&arguments.values)
        .map_err(anyhow::Error::from)
        .and_then(|values| images::of(&values).map_err(anyhow::Error::from));
    match listed {
        Ok(images) => {
            printer::data(&match arguments.output {
                OutputArgument::Text => images::text(&images),
                OutputArgument::Json => images::json(&images),
            });
            ExitCode::SUCCESS
        }
        Err(error) => {
            printer::error(
                &error,
                Some("give --values the files that helm gets, in the same order"),
            );
            ExitCode::from(64)
        }
    }
}
