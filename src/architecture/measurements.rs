//! What was learnt by measuring. The page [`architecture`](super) explains the words.
//!
#![doc = include_str!("measurements.md")]
