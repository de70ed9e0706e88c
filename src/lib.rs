//! DevPlane gives each signed-in user of a closed Kubernetes cluster an isolated, persistent terminal in the browser.

pub mod api;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod doctor;
pub mod identity;
pub mod labels;
pub mod names;
pub mod operator;
pub mod policy;
pub mod render;
pub mod serve;
pub mod telemetry;
pub mod units;
