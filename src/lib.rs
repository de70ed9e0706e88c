//! DevPlane gives each signed-in user of a closed Kubernetes cluster an isolated, persistent terminal in the browser.
//!
//! `Workspace -> observe -> validate -> desired -> plan(now) -> apply -> status`
//!
//! | layer | modules | rule |
//! |---|---|---|
//! | vocabulary | `api` `identity` `names` `labels` `units` `clock` `causes` | pure; imports nothing above it |
//! | rendering | `policy` `render` | pure; equal input, equal objects |
//! | settings | `config` | the only reader of files and environment, told what to read by `cli` |
//! | rims | `audit` `telemetry` `serve` `cluster` `oidc` `proxy` `recording` `tls` `certificates` `connectivity` `http_client` `registry` | one I/O library each, knowing nothing of each other; `oidc` and `registry` ask through `http_client` |
//! | programs | `operator` `gateway` `doctor` `canary` | never import one another |
//! | command line | `cli` | the only caller of programs |
//!
//! `tests/architecture.rs` holds the imports to this.

pub mod api;
pub mod audit;
pub mod canary;
pub mod causes;
pub mod certificates;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod connectivity;
pub mod doctor;
pub mod gateway;
pub mod http_client;
pub mod identity;
pub mod labels;
pub mod names;
pub mod oidc;
pub mod operator;
pub mod policy;
pub mod proxy;
pub mod recording;
pub mod registry;
pub mod render;
pub mod serve;
pub mod telemetry;
pub mod tls;
pub mod units;
