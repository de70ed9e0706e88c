//! Claims about an installation become findings: what holds, what does not, and how to mend it.
//!
//! `installation` is what is known beforehand: settings of a role, or the `values` that Helm gets. `check` is the vocabulary, `catalog` the
//! list of claims with their stable codes, `checks` the proofs. `select` chooses, `run` runs, `report` tells. What a probe makes in the
//! cluster goes through `probe`, which removes it; what is not in the API server is looked at by `outside`, once for all checks. Nothing here
//! asks anything that is not configured.
//! `images` lists what to copy into a closed network and `recording` looks into recorded sessions, both away from any cluster.
//!
//! To add a check: write its [`Claim`] and an `async fn(Arc<Context>) -> Status` in the file of its group in `checks/`, and both into that
//! file's `CHECKS`, in the order of codes. A new group is a new file and one line in [`catalog::GROUPS`]. A claim that rests on another one
//! names it in `needs`; a check that can't know says so with [`Status::skip`]. Then print the reference page anew:
//! `devplane doctor --reference > docs/reference/doctor.md`. A deliberate fault in `tests/doctor/` shows that the check finds it.

pub mod access;
pub mod amounts;
pub mod catalog;
mod check;
mod checks;
pub mod context;
pub mod fetch;
pub mod images;
pub mod installation;
mod outside;
pub mod probe;
mod reading;
pub mod recording;
pub mod report;
pub mod rights;
pub mod run;
pub mod select;
pub mod values;
mod wanted;

pub use crate::connectivity::settle;
pub use check::{Check, Claim, Failure, Finding, Fix, Severity, Status};
pub use context::Context;
pub use installation::{Installation, OidcSource, Role};
