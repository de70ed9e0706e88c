//! The proofs: one module for each claim.

pub mod api_server;
pub mod configuration;
pub mod crd;
pub mod permissions;
