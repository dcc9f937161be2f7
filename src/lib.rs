//! Normalization layers as WGSL compute shaders on wgpu, BatchNorm first: torch's names and numbers, the mode
//! in the method instead of in a flag, and a guest's manners in the caller's encoder.
//!
//! # A layer
//!
//! ```no_run
//! use wgpu_norm::{BatchNormConfig, Gpu, Shape};
//!
//! let gpu = Gpu::open()?;
//! let mut bn = BatchNormConfig::new(2).build(&gpu)?; // torch's defaults
//! let x = gpu.tensor(Shape::nc(3, 2), &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0])?;
//! let (y, saved) = bn.train(&x)?; // batch statistics; the running ones move, on the GPU
//! let gradients = bn.backward(saved, &y)?; // consumes `saved`: no second, no stale backward
//! let y = bn.eval(&x)?; // running statistics; changes nothing
//! println!("{:?} {:?}", y.read()?, gradients.weight()?);
//! # Ok::<(), wgpu_norm::Error>(())
//! ```
//!
//! # A step in the caller's encoder
//!
//! All thinking and all failing happens before the hot loop: a plan is made once for a shape, bound once to
//! buffers, and recorded any number of times. Recording cannot fail, allocates nothing, and neither touches the
//! queue nor waits.
//!
//! ```no_run
//! use wgpu_norm::batch_norm::{TrainBuffers, TrainPlan};
//! use wgpu_norm::{BatchNormConfig, Kernels, Shape};
//!
//! # fn example(
//! #     device: wgpu::Device, x: wgpu::Buffer, y: wgpu::Buffer, affine: wgpu::Buffer, running: wgpu::Buffer,
//! #     saved: wgpu::Buffer, scratch: wgpu::Buffer, mut encoder: wgpu::CommandEncoder,
//! # ) -> Result<(), wgpu_norm::Error> {
//! let kernels = Kernels::new(&device)?;
//! let config = BatchNormConfig::new(64);
//! let plan = TrainPlan::new(&kernels, Shape::nchw(32, 64, 56, 56), &config)?;
//! let step = plan.bind(&TrainBuffers {
//!     x: x.slice(..),
//!     y: y.slice(..),
//!     residual: None,                   // what an epilogue adds
//!     affine: Some(affine.slice(..)),   // plan.affine_bytes(), from config.initial_affine()
//!     running: Some(running.slice(..)), // plan.running_bytes(), from config.initial_running()
//!     saved: saved.slice(..),           // plan.saved_bytes()
//!     scratch: Some(scratch.slice(..)), // plan.scratch_bytes()
//! })?;
//! step.encode(&mut encoder); // or step.record(&mut pass); a thousand times
//! # Ok(())
//! # }
//! ```
//!
//! # What differs from torch
//!
//! * There is no `training` flag: [`train`](BatchNorm::train), [`eval`](BatchNorm::eval) and
//!   [`frozen`](BatchNorm::frozen) are methods.
//! * Statistics come from deviations, never from `E[x^2] - E[x]^2`, and `y` from `x - mean`, never from
//!   `x * scale + shift`: a mean of ten thousand deviations costs no digits.
//! * An empty batch is allowed: empty output, zero parameter gradients, running statistics and their counter as
//!   before. (torch counts it.)
//! * `eps` must be positive where statistics come from the batch. Where it is zero with running statistics, a channel
//!   whose variance is zero becomes its bias; torch divides by zero.
//! * Weight and bias are independent switches.
//!
//! The [`architecture`] page explains the house and what was learnt in building it.

pub mod architecture;
pub mod batch_norm;
mod dtype;
mod error;
mod gpu;
pub mod reference;
mod shape;
mod shared;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use dtype::{Dtype, DtypeError, Element, Problem};
pub use error::{BindError, Error, GpuError, PlanError, TensorError, TuneError};
pub use gpu::{Caps, Gpu, GpuOptions, Kernels, Tensor};
/// The crate of [`f16`](half::f16) and [`bf16`](half::bf16), in the version that [`Element`] is implemented for.
pub use half;
pub use shape::{Layout, Shape, ShapeError};
/// The version of wgpu that the crate's signatures use.
pub use wgpu;

#[cfg(test)]
mod tests {
    use super::*;

    /// Layers and plans move to worker threads, and several threads share them.
    #[test]
    fn public_types_are_send_and_sync() {
        fn check<T: Send + Sync + 'static>() {}
        check::<Gpu>();
        check::<GpuOptions>();
        check::<Kernels>();
        check::<Caps>();
        check::<Tensor>();
        check::<Problem>();
        check::<Error>();
        check::<BatchNorm>();
        check::<batch_norm::Saved>();
        check::<batch_norm::Gradients>();
        check::<batch_norm::State>();
        check::<batch_norm::TrainPlan>();
        check::<batch_norm::EvalPlan>();
        check::<batch_norm::BackwardPlan>();
        check::<batch_norm::Step>();
        check::<batch_norm::Tuner>();
        check::<reference::compare::Mismatch>();
    }
}
