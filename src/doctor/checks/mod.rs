//! The proofs: one file or directory for each group of the catalogue.

pub mod api;
pub mod configuration;
pub mod exposure;
pub mod images;
pub mod models;
pub mod oidc;
mod outcome;
pub mod policies;
pub mod upgrade;
