//! Batch normalization as wgpu compute shaders.

pub mod batch_norm;
mod error;
mod gpu;
pub mod reference;
mod shape;
mod shared;

pub use batch_norm::{BatchNorm, BatchNormConfig};
pub use error::{BindError, Error, GpuError, PlanError, ShapeError, TensorError};
pub use gpu::{Caps, Gpu, Kernels, Tensor};
pub use shape::{Layout, Shape};
