//! The CPU reference in f64: an oracle for each norm, the moments of sets of values, a comparer that rejects NaN, and
//! the generator of test values. It does not use the GPU.

pub mod batch_norm;
pub mod compare;
pub mod group_norm;
pub mod instance_norm;
pub mod layer_norm;
mod moments;
pub(crate) mod noise;
pub mod rms_norm;
#[cfg(test)]
mod slopes;

pub use moments::Moments;
pub use noise::noise;
