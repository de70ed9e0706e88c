//! Recordings as they lie on disk: whatever is changed, cut or taken away is found, and what a crash or a full disk leaves is still evidence.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "crashes.rs"]
mod crashes;
#[path = "doctor.rs"]
mod doctor;
#[path = "fetch.rs"]
mod fetch;
#[path = "harness.rs"]
mod harness;
#[path = "tampering.rs"]
mod tampering;
#[path = "together.rs"]
mod together;
