//! Browsers become users at their terminals: the parts of the gateway that decide and remember.
//!
//! `request -> request id -> route -> authenticate -> same origin -> rate limit -> authorise owner -> ensure -> proxy or page ->
//! log + audit`. Each module is one of these steps.

pub mod index;
pub mod limits;
pub mod origin;
pub mod progress;
pub mod return_path;
pub mod route;
pub mod session;
pub mod session_keys;
pub mod workspaces;
