//! Defaults, a file and the environment become one checked struct for each role, with all problems told at once.
//!
//! `setting` is the vocabulary (one [`setting::Setting`] for each key), `source` merges the three layers with figment, `reader`
//! turns texts into values and collects what is wrong. `operator`, `gateway` and `canary` list their settings and say what
//! each must be. Nothing else in the program reads the environment.

pub mod canary;
pub mod classes;
pub mod clipboard;
pub mod edge;
pub mod egress;
pub mod entry;
pub mod gateway;
pub mod limits;
mod metadata_key;
pub mod operator;
mod pod;
pub mod reader;
pub mod recording;
pub mod session;
pub mod setting;
pub mod source;
pub mod syntax;

pub use canary::CanaryConfig;
pub use gateway::GatewayConfig;
pub use operator::OperatorConfig;
pub use reader::{Problem, Problems};
pub use recording::RecordingConfig;
pub use setting::Setting;
pub use source::Source;
