//! DP11: what an installation does once it is there.

mod metrics;
mod replicas;
mod workspaces;

use super::super::check::Check;

pub const CHECKS: &[Check] = &[
    replicas::OPERATOR,
    replicas::LEADER,
    replicas::GATEWAY,
    replicas::SESSION_KEYS,
    workspaces::STUCK,
    metrics::OPERATOR,
    metrics::GATEWAY,
];
