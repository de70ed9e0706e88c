//! Settings become what one new workspace asks of the cluster.

use super::amounts;
use super::check::Status;
use super::context::Context;
use super::reading::Read;
use crate::api::pod_settings::PodSettings;

/// What a default workspace asks for, in thousandths.
pub struct Wanted<'a> {
    pub cpu: i128,
    pub memory: i128,
    pub storage: i128,
    /// What the scheduler is told, which may be less.
    pub requested_cpu: i128,
    pub requested_memory: i128,
    /// `None` is the cluster's default.
    pub storage_class: Option<&'a str>,
    pub pod: &'a PodSettings,
}

impl<'a> Wanted<'a> {
    /// # Errors
    /// [`Status::Skip`] when the settings of operator and gateway are not both known.
    pub fn of(context: &'a Context) -> Read<Self> {
        let unknown = || Status::skip("what a workspace gets is known of complete values alone: give --values");
        let gateway = context.installation.gateway().ok_or_else(unknown)?;
        let operator = context.installation.operator().ok_or_else(unknown)?;
        let amount = |text: &str| amounts::milli(text).unwrap_or_default();
        let pod = &operator.workspace.common.pod;
        let (cpu, memory) = (
            amount(gateway.workspace.cpu.as_str()),
            amount(gateway.workspace.memory.as_str()),
        );
        let requested = |name: &str, limit: i128| {
            let request = pod.requests.get(name).and_then(|text| amounts::milli(text));
            request.map_or(limit, |request| request.min(limit))
        };
        Ok(Self {
            cpu,
            memory,
            storage: amount(gateway.workspace.storage.as_str()),
            requested_cpu: requested("cpu", cpu),
            requested_memory: requested("memory", memory),
            storage_class: gateway.workspace.storage_class.as_deref(),
            pod,
        })
    }
}
