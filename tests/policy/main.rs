//! What the rendered NetworkPolicies let through, for random settings and random traffic: by properties that must always hold, and by
//! asking an analyser that others have written whether it reads them as we do.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod central;
mod cilium;
mod evaluator;
mod oracle;
mod properties;
mod site;
