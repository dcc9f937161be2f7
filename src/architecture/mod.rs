//! How the crate is built, and why: for readers who change it, and for readers who judge it. The page [`measurements`] holds
//! what was learnt by measuring.
//!
#![doc = include_str!("house.md")]

pub mod measurements;
