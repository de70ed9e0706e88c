//! The real gateway with a real provider, a real kube-apiserver and a real ttyd. But for `journey`, no operator runs here: the tests
//! write the status of Workspaces themselves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
#[path = "../harness/apiserver.rs"]
mod apiserver;
#[path = "../harness/audit_schema.rs"]
mod audit_schema;
mod balancer;
mod browser;
mod chromium;
mod departed;
mod edge;
mod entry;
#[path = "../harness/eventually.rs"]
mod eventually;
mod front;
mod harness;
mod headers;
mod hostile;
mod journey;
mod late;
mod logout_tokens;
mod memory;
#[path = "../harness/openmetrics.rs"]
mod openmetrics;
#[allow(dead_code, reason = "shared with the tier `apiserver`")]
#[path = "../apiserver/operator.rs"]
mod operator;
mod page;
mod presence;
mod private_ca;
mod recording;
mod refusals;
mod resumed;
mod revoked;
mod rolling;
mod secrets;
mod sessions;
mod sign_in;
mod terminal;
mod terminal_tls;
mod wire;
mod workspaces;
