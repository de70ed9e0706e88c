//! DevPlane gives each signed-in user of a closed Kubernetes cluster an isolated, persistent terminal in the browser.

pub mod api;
pub mod clock;
pub mod config;
pub mod identity;
pub mod labels;
pub mod names;
pub mod units;
