//! The Kubernetes API, as the programs see it.

pub mod client;
pub mod kinds;
pub mod lean;
pub mod lease;
pub mod session_keys;
pub mod watch;
