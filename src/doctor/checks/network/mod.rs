//! DP08: names, the cluster's own address ranges, and who enforces policies.

mod backend;
mod enforced;
mod enforcer;
mod names;
mod probe_pods;
pub mod ranges;

use super::super::check::Check;

pub const CHECKS: &[Check] = &[
    names::PODS,
    names::DOMAIN,
    ranges::KNOWN,
    names::NODE_LOCAL,
    enforcer::CHECK,
    enforced::CHECK,
    backend::CHOSEN,
    backend::USED,
];
