//! `devplane operator`: flags and settings become an [`OperatorConfig`], and the operator runs on it.

use super::{ConfigFile, Failure, single_threaded_runtime, start_log};
use crate::clock::SystemClock;
use crate::cluster::client;
use crate::config::operator::{HEALTH_PROBE_BIND_ADDRESS, LEADER_ELECT, METRICS_BIND_ADDRESS, SETTINGS};
use crate::config::{OperatorConfig, setting};
use anyhow::Context;
use clap::Args;
use std::sync::Arc;

#[derive(Args)]
#[command(after_long_help = setting::help_table(SETTINGS))]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Wait for the Lease before working [env: LEADER_ELECT=]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "BOOL")]
    leader_elect: Option<String>,
    /// Where /metrics is served, such as :8080 [env: METRICS_BIND_ADDRESS=]
    #[arg(long, value_name = "HOST:PORT")]
    metrics_bind_address: Option<String>,
    /// Where /healthz and /readyz are served, such as :8081 [env: HEALTH_PROBE_BIND_ADDRESS=]
    #[arg(long, value_name = "HOST:PORT")]
    health_probe_bind_address: Option<String>,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let source = arguments.file.load(
        SETTINGS,
        &[
            (&LEADER_ELECT, arguments.leader_elect.clone()),
            (&METRICS_BIND_ADDRESS, arguments.metrics_bind_address.clone()),
            (&HEALTH_PROBE_BIND_ADDRESS, arguments.health_probe_bind_address.clone()),
        ],
    )?;
    let config = OperatorConfig::read(&source)?;
    start_log(&source)?;
    // One thread: the operator waits for the API server, and two that wake each other cost more than they do.
    single_threaded_runtime()?.block_on(async {
        let client = client::connect().await.context("can't start the operator")?;
        crate::operator::run(config, client, Arc::new(SystemClock))
            .await
            .context("the operator stopped")
    })?;
    Ok(())
}
