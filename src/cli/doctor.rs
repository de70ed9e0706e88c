//! `devplane doctor`: runs the checks, prints their findings, and exits by them; or lists images, or looks into recordings.

use super::{ConfigFile, environment, printer, recording, runtime};
use crate::clock::{Clock, SystemClock};
use crate::cluster::client;
use crate::config::{Source, gateway, operator};
use crate::doctor::probe::Probes;
use crate::doctor::report::progress::Progress;
use crate::doctor::report::{Counts, brief, json, junit, reference, text};
use crate::doctor::select::Selection;
use crate::doctor::values::Values;
use crate::doctor::{Context, Finding, Installation, Role, images, installation, run, settle};
use clap::{Args, Subcommand, ValueEnum};
use futures::future::select_all;
use kube::Client;
use rand::Rng;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The namespace that the documentation installs into.
const NAMESPACE: &str = "workspace-operator-system";
/// What a shell tells of a program that SIGINT has ended: 128 and the signal's number.
pub(super) const INTERRUPTED: u8 = 130;

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    file: ConfigFile,
    /// Whose configuration and permissions to check, when there are no --values
    #[arg(long, env = "DEVPLANE_DOCTOR_ROLE", value_enum, default_value = "operator")]
    role: RoleArgument,
    /// A values file as helm gets it, before the installation or after it; several are merged in their order
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,
    /// The namespace of the release, for --values
    #[arg(long, short, default_value = NAMESPACE, value_name = "NAME")]
    namespace: String,
    /// Only these checks and what they need: codes, or the beginnings of codes such as DP02
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    only: Vec<String>,
    /// All checks but these
    #[arg(long, value_delimiter = ',', value_name = "CODE")]
    skip: Vec<String>,
    /// Also run checks that make objects in the cluster for a moment
    #[arg(long)]
    probe: bool,
    /// What ends with exit code 1
    #[arg(long, value_enum, default_value = "error")]
    fail_on: FailOn,
    /// How to print the findings
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
    /// Also write the findings in brief to this file, for whoever made the pod that this runs in
    #[arg(long, value_name = "FILE", hide = true)]
    brief: Option<PathBuf>,
    /// Begin when the API server is closed to this pod, which a workspace's policies see to; 35 seconds later at the latest
    #[arg(long, hide = true)]
    once_policed: bool,
    /// Print the JSON Schema of `--output json`, and check nothing
    #[arg(long, conflicts_with = "reference")]
    schema: bool,
    /// Print the reference page of all checks in Markdown, and check nothing
    #[arg(long)]
    reference: bool,
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
    /// Ask each image's registry for its digest, with the pull secrets of the cluster where there is one
    #[arg(long)]
    resolve: bool,
    /// The namespace of the release, for --resolve
    #[arg(long, short, default_value = NAMESPACE, value_name = "NAME")]
    namespace: String,
    /// text: a reference a line, and with --resolve a tab and its digest; json: with registry, repository, tag, digest, and what runs the image
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FailOn {
    Error,
    Warn,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
    Junit,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Some(Command::Recording(arguments)) => return recording::run(arguments),
        Some(Command::Images(arguments)) => return list_images(arguments),
        None => {}
    }
    if arguments.schema || arguments.reference {
        printer::data(&if arguments.schema {
            json::schema()
        } else {
            reference::page()
        });
        return ExitCode::SUCCESS;
    }
    match examine(arguments) {
        Ok(code) => code,
        Err(error) => {
            printer::error(&error, Some("`devplane doctor --help` lists the options"));
            ExitCode::from(64)
        }
    }
}

fn list_images(arguments: &ImagesArguments) -> ExitCode {
    let listed = Values::load(&arguments.values)
        .map_err(anyhow::Error::from)
        .and_then(|values| Ok((images::of(&values)?, values)));
    let (mut images, values) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            printer::error(
                &error,
                Some("give --values the files that helm gets, in the same order"),
            );
            return ExitCode::from(64);
        }
    };
    for path in images::left_out(&values) {
        printer::note(&format!(
            "{path} has an image that a template makes, or that names none: it is not listed"
        ));
    }
    let unresolved = if arguments.resolve {
        let Ok(runtime) = runtime() else {
            return ExitCode::FAILURE;
        };
        runtime.block_on(resolve(values, &arguments.namespace, &mut images))
    } else {
        Vec::new()
    };
    printer::data(&match arguments.output {
        OutputArgument::Text => images::text(&images, arguments.resolve),
        OutputArgument::Json => images::json(&images),
    });
    for why in &unresolved {
        printer::error(&anyhow::anyhow!("{why}"), None);
    }
    if unresolved.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn resolve(values: Values, namespace: &str, images: &mut [images::Image]) -> Vec<String> {
    // The provider's client has no part in this.
    let unknown = installation::OidcSource::Unknown("it is not asked for".to_owned());
    let context = Context::new(
        Installation::of_values(values, namespace, unknown),
        client::connect().await,
        Probes::new(false, run_id()),
        SystemClock.now(),
    );
    context.resolve(images).await
}

fn examine(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let selection = Selection::new(&arguments.only, &arguments.skip)?;
    let values = match arguments.values.as_slice() {
        [] => None,
        paths => Some(Values::load(paths)?),
    };
    let role = arguments.role();
    let source = arguments.file.load(role.1, &[])?;
    let Ok(runtime) = runtime() else {
        return Ok(ExitCode::FAILURE);
    };
    Ok(runtime.block_on(async {
        if let Some(api_server) = arguments.once_policed.then(api_server).flatten() {
            settle(api_server).await;
        }
        let client = client::connect().await;
        let installation = match values {
            Some(values) => of_values(arguments, values, client.as_ref().ok()).await,
            None => of_role(role.0, &source),
        };
        let context = Context::new(
            installation,
            client,
            Probes::new(arguments.probe, run_id()),
            SystemClock.now(),
        );
        let context = Arc::new(context);
        let (findings, is_interrupted) = findings(arguments, &selection, &context).await;
        match arguments.output {
            Output::Text => printer::data(&text::summary(&findings)),
            Output::Json => printer::data(&json::report(&findings)),
            Output::Junit => printer::data(&junit::report(&findings)),
        }
        if let Some(file) = &arguments.brief
            && let Err(error) = std::fs::write(file, brief::report(&findings))
        {
            printer::error(&anyhow::anyhow!("can't write {}: {error}", file.display()), None);
        }
        let left = context.probes.left();
        for left in &left {
            printer::error(&anyhow::Error::msg(left.to_string()), None);
        }
        let Counts { warnings, failed, .. } = Counts::of(&findings);
        if is_interrupted {
            ExitCode::from(INTERRUPTED)
        } else if !left.is_empty() || failed > 0 || (warnings > 0 && arguments.fail_on == FailOn::Warn) {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }))
}

/// As Kubernetes tells every pod.
fn api_server() -> Option<SocketAddr> {
    let address = environment("KUBERNETES_SERVICE_HOST")?.parse().ok()?;
    Some(SocketAddr::new(
        address,
        environment("KUBERNETES_SERVICE_PORT")?.parse().ok()?,
    ))
}

impl Arguments {
    fn role(&self) -> (Role, &'static [crate::config::Setting]) {
        match self.role {
            RoleArgument::Operator => (Role::Operator, operator::SETTINGS),
            RoleArgument::Gateway => (Role::Gateway, gateway::SETTINGS),
        }
    }
}

fn of_role(role: Role, source: &Source) -> Installation {
    Installation::of_role(role, source)
}

async fn of_values(arguments: &Arguments, values: Values, client: Option<&Client>) -> Installation {
    let oidc = installation::oidc_source(&values, &arguments.namespace, client, environment).await;
    Installation::of_values(values, &arguments.namespace, oidc)
}

/// Runs the checks, and says whether they were interrupted. As text they are printed as they end; on a terminal, a line on standard error says
/// what is being done.
async fn findings(arguments: &Arguments, selection: &Selection, context: &Arc<Context>) -> (Vec<Finding>, bool) {
    let stop = CancellationToken::new();
    let interrupted = tokio::spawn(interruption(stop.clone()));
    let mut progress = Progress::new(selection);
    let is_shown = std::io::stderr().is_terminal();
    let findings = run::run(selection, context, &stop, |event| {
        let ready = progress.after(&event);
        if is_shown {
            printer::status("");
        }
        if arguments.output == Output::Text {
            printer::data(&ready.iter().map(text::finding).collect::<String>());
        }
        if is_shown {
            printer::status(&progress.line());
        }
    });
    let findings = findings.await;
    if is_shown {
        printer::status("");
    }
    interrupted.abort();
    (findings, stop.is_cancelled())
}

async fn interruption(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    // The last one comes when the terminal is closed, or the connection to it breaks.
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
    let Ok(mut signals) = kinds.into_iter().map(signal).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
    stop.cancel();
}

/// Eight letters and digits that no other run has.
fn run_id() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut rng = rand::rng();
    (0..8)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect()
}
