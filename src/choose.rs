//! Which norm for what: the norms side by side, how many values share a statistic, what replacing one by another takes, and
//! where torch surprises.
//!
#![doc = include_str!("choose.md")]
