//! The custom resource: what a Workspace asks for, and what became of it; and the close codes of its terminals.

pub mod account_right;
pub mod close_code;
pub mod egress;
pub mod hint;
pub mod pod_settings;
pub mod status;
pub mod workspace;

pub use status::{Phase, Reason, WorkspaceStatus};
pub use workspace::{Workspace, WorkspaceSpec};
