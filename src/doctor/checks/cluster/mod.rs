//! DP04: namespaces, storage, room for a workspace, and objects that the settings name.

pub mod namespaces;
mod nodes;
mod references;
mod room;
mod storage;

use super::super::check::Check;

pub const CHECKS: &[Check] = &[
    namespaces::EXIST,
    namespaces::SECURITY,
    storage::CLASS,
    storage::EXPANDS,
    storage::BINDING,
    storage::TRIAL,
    room::QUOTA,
    room::LIMITS,
    nodes::FIT,
    references::RUNTIME_CLASS,
    references::PRIORITY_CLASSES,
    references::PULL_SECRETS,
    references::AUTHORITIES,
    references::SECRETS,
    namespaces::OWN_SECURITY,
    nodes::DEVICES,
];
