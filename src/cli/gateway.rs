//! `devplane gateway`: settings become a [`GatewayConfig`], and the gateway runs on it.

use super::{ConfigFile, Failure, runtime, start_log};
use crate::clock::SystemClock;
use crate::cluster::client;
use crate::config::gateway::SETTINGS;
use crate::config::{GatewayConfig, setting};
use anyhow::Context;
use clap::Args;
use std::sync::Arc;

#[derive(Args)]
#[command(after_long_help = setting::help_table(SETTINGS))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.file.load(SETTINGS, &[])?;
    let config = GatewayConfig::read(&source)?;
    start_log(&source)?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let client = client::connect().await.context("can't start the gateway")?;
        crate::gateway::run(config, client, Arc::new(SystemClock))
            .await
            .context("the gateway stopped")
    })?;
    Ok(())
}
