//! Sockets become requests, and signals the end of serving.

pub mod drain;
pub mod listener;
pub mod probes;
pub mod shutdown;
mod stall;
pub mod strict;
