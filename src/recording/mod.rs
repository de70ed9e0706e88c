//! The messages of a terminal become a recording that stands up as evidence: a chain of records on disk, signed now and then, and a
//! ledger that tells which recordings there must be.
//!
//! `chain`, `seal`, `manifest` and `ledger` are the documents, pure. `tap` and `session` are what a terminal talks to and never waits for, `queue` what
//! they fill, and `writer` the one thread that empties it to disk, both begun by `recorder`; `keeper` is the one that compresses and removes, by what ledgers have `said`. `verify` reads all of it back; `playback` is what was seen, and `asciicast` and `transcript` make
//! something to look at of that. `layout` names the files.

pub mod asciicast;
pub mod chain;
mod keeper;
pub mod layout;
pub mod ledger;
mod ledger_file;
pub mod manifest;
pub mod playback;
mod queue;
pub mod read;
pub mod recorder;
mod said;
pub mod seal;
mod session;
mod session_file;
mod tap;
pub mod transcript;
mod unseen;
pub mod verify;
mod writer;

pub use recorder::{About, Options, Recorder};
pub use session::{Closed, Failure, Recording};
pub use tap::{Part, Tap};
