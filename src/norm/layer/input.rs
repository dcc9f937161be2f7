//! The tensors of a forward pass.

use super::{check_alike, check_device};
use crate::error::TensorError;
use crate::gpu::{Gpu, Tensor};
use crate::norm::options::Epilogue;

/// The input of a forward pass: a tensor, or for an epilogue that adds, a tensor and the residual to add.
///
/// ```no_run
/// # fn f(bn: &mut wgpu_norm::BatchNorm, x: wgpu_norm::Tensor, residual: wgpu_norm::Tensor) -> Result<(), wgpu_norm::Error> {
/// let (y, saved) = bn.train(&x)?;
/// let (y, saved) = bn.train((&x, &residual))?; // with Epilogue::AddRelu
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    pub(crate) x: &'a Tensor,
    pub(crate) residual: Option<&'a Tensor>,
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(x: &'a Tensor) -> Self {
        Self { x, residual: None }
    }
}

impl<'a> From<(&'a Tensor, &'a Tensor)> for Input<'a> {
    fn from((x, residual): (&'a Tensor, &'a Tensor)) -> Self {
        Self {
            x,
            residual: Some(residual),
        }
    }
}

impl<'a> Input<'a> {
    /// Do the tensors fit the layer and each other?
    pub(crate) fn check(&self, gpu: &Gpu, epilogue: Epilogue) -> Result<(), TensorError> {
        let problem = match (self.residual, epilogue.adds()) {
            (None, false) | (Some(_), true) => return self.check_tensors(gpu),
            (None, true) => "is missing; pass (&x, &residual)",
            (Some(_), false) => "is given, but the epilogue adds nothing",
        };
        Err(TensorError::Residual { problem })
    }

    /// Are the tensors of the device, and alike?
    pub(crate) fn check_tensors(&self, gpu: &Gpu) -> Result<(), TensorError> {
        check_device(gpu, "x", self.x)?;
        if let Some(residual) = self.residual {
            check_device(gpu, "residual", residual)?;
            check_alike("residual", residual, self.x)?;
        }
        Ok(())
    }

    pub(crate) fn residual_slice(&self) -> Option<wgpu::BufferSlice<'a>> {
        self.residual.map(Tensor::slice)
    }
}
