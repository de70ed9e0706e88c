//! Attempts to connect become a judgement on whether NetworkPolicies are enforced.
//!
//! [`dial`] makes one attempt and tells what came back, [`report`] carries what a pod has tried to whoever asks it, [`matrix`] says what is
//! expected and judges, [`canary`] is the matrix of the canary, [`outcome`] what a probe tells of it, [`settle`] waits until a new pod is policed, and [`resolver`] is where a pod asks for names. A refusal alone shows nothing: the address may be wrong, nobody may
//! listen, the way may be broken. It counts only beside attempts that were allowed, in the same moment, and did get an answer.

pub mod canary;
pub mod dial;
pub mod matrix;
pub mod outcome;
pub mod place;
pub mod report;
pub mod resolver;
mod settle;

pub use dial::{Observed, Target};
pub use matrix::{Attempt, Expected, Verdict, judge};
pub use outcome::Outcome;
pub use place::Place;
pub use report::Report;
pub use settle::settle;
