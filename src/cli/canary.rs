//! `devplane canary`: settings become a [`CanaryConfig`], and the canary runs on it.

use super::{ConfigFile, Failure, start_log};
use crate::config::canary::SETTINGS;
use crate::config::{CanaryConfig, setting};
use anyhow::Context;
use clap::Args;

#[derive(Args)]
#[command(after_long_help = setting::help_table(SETTINGS))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.file.load(SETTINGS, &[])?;
    let config = CanaryConfig::read(&source)?;
    start_log(&source)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime
        .context("can't start the asynchronous runtime")?
        .block_on(crate::canary::run(config))
        .context("the canary stopped")?;
    Ok(())
}
