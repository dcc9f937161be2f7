//! Batch normalization as wgpu compute shaders.

mod error;
pub mod reference;
mod shape;

pub use error::{BindError, Error, GpuError, PlanError, ShapeError, TensorError};
pub use shape::{Layout, Shape};
