//! Counts and sizes become OpenMetrics text: every family that DevPlane exposes is declared here.
//!
//! Labels are bounded sets of words, never a user, an object's name or an address. The text format's encoder appends
//! `_total` to counters, so the names here leave it out. What is known beforehand begins at zero: the first of a series
//! that was not there before is no increase to Prometheus.

use crate::api::status::StopReason;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::OnceLock;
use std::time::Instant;

pub use gateway::{
    BackchannelLogout, Direction, GatewayMetrics, JsonApiError, LogoutOutcome, RateLimitEndpoint, RateLimitHit,
    RateLimitScope, RecordingFailure, RecordingFault, RefreshOutcome, Refusal, RefusalReason, SessionRefresh,
    TerminalBytes, TerminalClose,
};

/// The media type of what [`OperatorMetrics::encode`] and [`GatewayMetrics::encode`] return.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct PhaseTransition {
    /// `None` when the Workspace had no phase.
    pub from_phase: &'static str,
    pub to_phase: &'static str,
}

macro_rules! label_value {
    ($(#[$doc:meta])* $name:ident { $($(#[$of_variant:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$of_variant])* $variant,)+ }

        impl $name {
            const ALL: &[Self] = &[$(Self::$variant,)+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    };
}

mod gateway;

impl EncodeLabelValue for StopReason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.word(), encoder)
    }
}

label_value! {
    /// Where a pass over a Workspace did not get on.
    ReconcileStage {
        Watch = "watch",
        Finalizer = "finalizer",
        Apply = "apply",
        Status = "status",
        Timeout = "timeout",
    }
}

label_value! {
    /// What the time of a pass is spent on, when there is something to do.
    TimedStage {
        Finalizer = "finalizer",
        /// Validating, observing and planning: no waiting for anyone.
        Plan = "plan",
        Apply = "apply",
        Status = "status",
    }
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct Stop {
    pub reason: StopReason,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct ReconcileError {
    pub stage: ReconcileStage,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct InStage {
    pub stage: TimedStage,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct InState {
    state: &'static str,
}

/// What is known of the enforcement of NetworkPolicies.
const ENFORCEMENT: [&str; 3] = ["enforced", "not_enforced", "unknown"];

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
pub struct InPhase {
    pub phase: &'static str,
}

/// The operator's families.
pub struct OperatorMetrics {
    registry: Registry,
    pub phase_transitions: Family<PhaseTransition, Counter>,
    pub status_patch_failures: Counter,
    /// 1 while this process holds the Lease, or needs none.
    pub leader: Gauge,
    /// 1 while it is known which addresses are the cluster's own.
    pub cluster_ranges_known: Gauge,
    /// 1 while terminals can be given certificates, or need none.
    pub terminal_authorities_usable: Gauge,
    policy_enforcement: Family<InState, Gauge>,
    workspaces: Family<InPhase, Gauge>,
    count_phases: OnceLock<CountPhases>,
    pub stops: Family<Stop, Counter>,
    /// From when a workspace was asked for until its terminal takes connections.
    pub create_to_running: Histogram,
    reconcile_duration: Family<InStage, Histogram>,
    pub reconcile_errors: Family<ReconcileError, Counter>,
    /// Workspaces that have changed and wait for a pass, or are in one.
    pub queue_depth: Gauge,
}

impl Default for OperatorMetrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("devplane");
        let phase_transitions = Family::default();
        registry.register(
            "workspace_phase_transitions",
            "Changes of a Workspace's phase",
            phase_transitions.clone(),
        );
        let status_patch_failures = Counter::default();
        registry.register(
            "workspace_status_patch_failures",
            "Writes of a Workspace's status that failed",
            status_patch_failures.clone(),
        );
        let leader = Gauge::default();
        registry.register("operator_leader", "1 while this replica does the work", leader.clone());
        let cluster_ranges_known = Gauge::default();
        registry.register(
            "operator_cluster_ranges_known",
            "1 while the cluster's own address ranges are known",
            cluster_ranges_known.clone(),
        );
        let terminal_authorities_usable = Gauge::default();
        registry.register(
            "operator_terminal_authorities_usable",
            "1 while terminals can be given certificates",
            terminal_authorities_usable.clone(),
        );
        let policy_enforcement: Family<InState, Gauge> = Family::default();
        for state in ENFORCEMENT {
            drop(policy_enforcement.get_or_create(&InState { state }));
        }
        registry.register(
            "operator_policy_enforcement",
            "1 for what the canary has found of the enforcement of NetworkPolicies",
            policy_enforcement.clone(),
        );
        let workspaces = Family::default();
        registry.register("workspaces", "Workspaces by phase", workspaces.clone());
        let stops = Family::default();
        for &reason in StopReason::ALL {
            drop(stops.get_or_create(&Stop { reason }));
        }
        registry.register("workspace_stops", "Pods that were deleted", stops.clone());
        let create_to_running = Histogram::new(exponential_buckets(0.5, 2.0, 11));
        registry.register_with_unit(
            "workspace_create_to_running",
            "Time from when a workspace was asked for until its terminal takes connections",
            Unit::Seconds,
            create_to_running.clone(),
        );
        let reconcile_duration = Family::new_with_constructor(stage_histogram as fn() -> Histogram);
        for &stage in TimedStage::ALL {
            drop(reconcile_duration.get_or_create(&InStage { stage }));
        }
        registry.register_with_unit(
            "operator_reconcile_duration",
            "Time that a pass over a Workspace spends on a stage",
            Unit::Seconds,
            reconcile_duration.clone(),
        );
        let reconcile_errors = Family::default();
        for &stage in ReconcileStage::ALL {
            drop(reconcile_errors.get_or_create(&ReconcileError { stage }));
        }
        registry.register(
            "operator_reconcile_errors",
            "Passes that did not get to their end",
            reconcile_errors.clone(),
        );
        let queue_depth = Gauge::default();
        registry.register(
            "operator_queue_depth",
            "Workspaces that wait for a pass or are in one",
            queue_depth.clone(),
        );
        Self {
            registry,
            phase_transitions,
            status_patch_failures,
            leader,
            cluster_ranges_known,
            terminal_authorities_usable,
            policy_enforcement,
            workspaces,
            count_phases: OnceLock::new(),
            stops,
            create_to_running,
            reconcile_duration,
            reconcile_errors,
            queue_depth,
        }
    }
}

/// Gives the number of Workspaces in each phase.
type CountPhases = Box<dyn Fn() -> Vec<(&'static str, i64)> + Send + Sync>;

impl OperatorMetrics {
    /// How to count the Workspaces of each phase, which is done when someone asks.
    pub fn set_phases(&self, count: impl Fn() -> Vec<(&'static str, i64)> + Send + Sync + 'static) {
        // Set once, when the work begins.
        let _ = self.count_phases.set(Box::new(count));
    }

    /// `known` is one of `enforced`, `not_enforced` and `unknown`; `None` is without a canary.
    pub fn set_enforcement(&self, known: Option<&'static str>) {
        for state in ENFORCEMENT {
            let is_it = known == Some(state);
            self.policy_enforcement
                .get_or_create(&InState { state })
                .set(is_it.into());
        }
    }

    /// Counts the time until the result is dropped, which happens too when the pass is given up.
    pub fn time(&self, stage: TimedStage) -> StageTimer {
        StageTimer {
            duration: self.reconcile_duration.get_or_create(&InStage { stage }).clone(),
            began: Instant::now(),
        }
    }

    pub fn encode(&self) -> String {
        let counts = self.count_phases.get().map(|count| count()).unwrap_or_default();
        for (phase, number) in counts {
            self.workspaces.get_or_create(&InPhase { phase }).set(number);
        }
        encoded(&self.registry)
    }
}

/// From a millisecond to 16 seconds: a pass is given up soon after.
fn stage_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 8))
}

/// A stage of a pass that is going on.
pub struct StageTimer {
    duration: Histogram,
    began: Instant,
}

impl Drop for StageTimer {
    fn drop(&mut self) {
        self.duration.observe(self.began.elapsed().as_secs_f64());
    }
}

fn encoded(registry: &Registry) -> String {
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => text,
        // Writing to a String can't fail; an encoder's own bug must not stop the program.
        Err(std::fmt::Error) => String::new(),
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
