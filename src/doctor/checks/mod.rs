//! The proofs: one file or directory for each group of the catalogue.

mod admitted;
pub mod api;
pub mod cluster;
pub mod configuration;
pub mod exposure;
mod from_inside;
pub mod health;
pub mod images;
pub mod models;
pub mod network;
pub mod oidc;
mod outcome;
pub mod permissions;
mod pods;
mod provider_admitted;
pub mod upgrade;
