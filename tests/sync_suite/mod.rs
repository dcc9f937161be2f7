//! What ranks do together, whatever engine connects them: each case runs on every rank of a group.

mod agreement;
mod batches;
mod cases;
mod faults;
pub mod rank;
mod ranks;
mod scenarios;

pub use cases::{CASES, FAULTS};
