//! The CPU reference, in f64: an oracle too simple to be wrong, a comparer that a NaN cannot pass, and the
//! moments that partial results combine by. It knows no GPU.

pub mod compare;
mod moments;
pub(crate) mod noise;
pub mod oracle;

pub use moments::Moments;
