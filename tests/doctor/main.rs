//! Installations with faults made on purpose: the doctor finds each by its own code and by no other, and what it says to do about it helps.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "other tiers do more with it")]
#[path = "../harness/apiserver.rs"]
mod apiserver;
#[path = "../harness/authority.rs"]
mod authority;
mod outside;
#[allow(dead_code, reason = "other tiers do more with it")]
#[path = "../harness/registry.rs"]
mod registry;
