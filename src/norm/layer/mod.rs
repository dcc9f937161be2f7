//! What every layer is made of: its inputs, its parameters on the device, and what a forward pass leaves for backward.

mod gradients;
mod input;
mod parameters;
mod saved;

use std::sync::atomic::{AtomicU64, Ordering};

pub use gradients::{Gradients, Wanted};
pub use input::Input;
pub use parameters::{Parameters, check_rows, check_values, uploaded};
pub use saved::{BackwardError, Saved};

use crate::error::{Error, TensorError};
use crate::gpu::{Gpu, Tensor};

/// Tells layers apart, so that a `Saved` finds its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerId(u64);

impl LayerId {
    /// One that no other layer of the process has.
    pub fn new() -> Self {
        static LAYERS: AtomicU64 = AtomicU64::new(0);
        Self(LAYERS.fetch_add(1, Ordering::Relaxed))
    }
}

/// Is the tensor on the layer's device?
pub fn check_device(gpu: &Gpu, field: &'static str, tensor: &Tensor) -> Result<(), TensorError> {
    match tensor.gpu().is(gpu) {
        true => Ok(()),
        false => Err(TensorError::WrongDevice { field }),
    }
}

/// Has the tensor the shape and the storage type of another?
pub fn check_alike(field: &'static str, tensor: &Tensor, x: &Tensor) -> Result<(), TensorError> {
    match tensor.problem() == x.problem() {
        true => Ok(()),
        false => Err(TensorError::Shape {
            field,
            expected: x.problem().to_string(),
            got: tensor.problem().to_string(),
        }),
    }
}

/// Memory for a result of the shape and the storage type of `x`.
pub fn like(x: &Tensor) -> Result<Tensor, Error> {
    x.gpu().uninitialized(x.problem(), x.len())
}
