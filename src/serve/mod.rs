//! Sockets become requests, and signals the end of serving.

pub mod probes;
pub mod shutdown;
