//! The reference of an image becomes what its registry says of it: whether it is there, under which digest, and for which
//! architectures (OCI Distribution Specification 1.1; OCI Image Specification 1.1). Layers are never pulled.
//!
//! `reference` and `credentials` read what the values and the pull secrets say, `challenge` what a registry wants to see, `manifest`
//! what it gave; `client` asks.

mod challenge;
mod client;
mod credentials;
mod manifest;
mod reference;

pub use client::{Found, RegistryClient, RegistryError, Stage};
pub use credentials::{Credentials, CredentialsError, Login, key_of};
pub use reference::{Reference, ReferenceError};
