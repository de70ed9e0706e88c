//! DP08: names, the cluster's own address ranges, and who enforces policies.

mod names;
mod ranges;

use super::super::check::Check;

pub const CHECKS: &[Check] = &[
    names::PODS,
    names::DOMAIN,
    ranges::KNOWN,
    names::NODE_LOCAL,
    ranges::ENFORCER,
    super::policies::CHECKS[0],
    super::policies::CHECKS[1],
];
