//! The proofs: one file or directory for each group of the catalogue.

pub mod api;
pub mod configuration;
pub mod upgrade;
