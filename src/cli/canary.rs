//! `devplane canary`: settings become a [`CanaryConfig`], and the canary runs on it.

use super::{ConfigFile, Failure, printer, start_log};
use crate::canary::Place;
use crate::config::canary::SETTINGS;
use crate::config::{CanaryConfig, setting};
use anyhow::Context;
use clap::Args;
use std::net::IpAddr;
use std::path::PathBuf;

#[derive(Args)]
#[command(after_long_help = setting::help_table(SETTINGS))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Ask a canary at this address, once for each that it has, and print what comes of it as JSON; nothing is served then
    #[arg(long, value_name = "ADDRESS")]
    ask: Vec<IpAddr>,
    /// Where else it is written, such as /dev/termination-log
    #[arg(long, value_name = "FILE", requires = "ask")]
    result: Option<PathBuf>,
    /// Somewhere else that no workspace may get, to be tried too; once for each, and the same for a canary and who asks it
    #[arg(long, value_name = "NAME=ADDRESS:PORT")]
    place: Vec<Place>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.file.load(SETTINGS, &[])?;
    let config = CanaryConfig::read(&source)?;
    start_log(&source)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("can't start the asynchronous runtime")?;
    if arguments.ask.is_empty() {
        runtime
            .block_on(crate::canary::run(config, arguments.place.clone()))
            .context("the canary stopped")?;
        return Ok(());
    }
    let outcome = runtime.block_on(crate::canary::ask(&config, &arguments.ask, &arguments.place));
    let outcome = outcome.context("nothing was asked")?;
    let line = serde_json::to_string(&outcome).context("can't write the result")?;
    printer::data(&format!("{line}\n"));
    if let Some(file) = &arguments.result {
        std::fs::write(file, line).with_context(|| format!("can't write {}", file.display()))?;
    }
    Ok(())
}
