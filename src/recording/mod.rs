//! The messages of a terminal become a recording that stands up as evidence: a chain of records on disk, signed now and then, and a
//! ledger that tells which recordings there must be.
//!
//! `chain`, `seal`, `manifest` and `ledger` are the documents, pure. `recorder` is what a terminal talks to and never waits for; `writer` is the one
//! thread that writes; `keeper` is the one that compresses and removes. `verify` reads all of it back; `playback` is what was seen, and `asciicast` and `transcript` make
//! something to look at of that. `layout` names the files.

pub mod asciicast;
pub mod chain;
mod keeper;
pub mod layout;
pub mod ledger;
mod ledger_file;
pub mod manifest;
pub mod playback;
pub mod read;
pub mod recorder;
pub mod seal;
pub mod transcript;
pub mod verify;
mod writer;

pub use recorder::{About, Failure, Options, Recorder, Recording, Tap};
