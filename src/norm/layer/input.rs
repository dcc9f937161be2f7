//! The tensors of a forward pass.

use super::{check_alike, check_device};
use crate::dtype::Dtype;
use crate::error::TensorError;
use crate::gpu::{Gpu, Tensor};
use crate::norm::options::Epilogue;
use crate::norm::rows::AffineRows;

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
    /// Weight and bias of each sample.
    pub(crate) affine: Option<&'a Tensor>,
}

impl<'a> From<&'a Tensor> for Input<'a> {
    fn from(x: &'a Tensor) -> Self {
        Self {
            x,
            residual: None,
            affine: None,
        }
    }
}

impl<'a> From<(&'a Tensor, &'a Tensor)> for Input<'a> {
    fn from((x, residual): (&'a Tensor, &'a Tensor)) -> Self {
        Self {
            x,
            residual: Some(residual),
            affine: None,
        }
    }
}

impl<'a> Input<'a> {
    /// With parameters for a layer whose samples have their own: the f32 rows `[weight] [bias]` of those that the layer has
    /// ([`SampleNorm::affine_rows_of`](crate::norm::sample::SampleNorm::affine_rows_of)), in a tensor of as many values. With
    /// `N` samples and `P` parameters that is `Shape::nc(2 * N, P)`: a line of weights for each sample, and then a line of
    /// biases.
    pub fn affine(mut self, affine: &'a Tensor) -> Self {
        self.affine = Some(affine);
        self
    }

    /// Do the tensors fit the layer and each other?
    pub(crate) fn check(&self, gpu: &Gpu, epilogue: Epilogue) -> Result<(), TensorError> {
        self.check_tensors(gpu, epilogue.adds())?;
        self.check_no_affine()
    }

    /// Is the layer left to its own parameters?
    pub(crate) fn check_no_affine(&self) -> Result<(), TensorError> {
        match self.affine {
            None => Ok(()),
            Some(_) => Err(TensorError::Affine {
                problem: "is given, but the samples have no parameters of their own in this layer",
            }),
        }
    }

    /// Are the tensors of the device, and alike? Is there a residual if and only if it is added?
    pub(crate) fn check_tensors(&self, gpu: &Gpu, adds: bool) -> Result<(), TensorError> {
        let problem = match (self.residual, adds) {
            (None, true) => "is missing; pass (&x, &residual)",
            (Some(_), false) => "is given, but the epilogue adds nothing",
            _ => {
                check_device(gpu, "x", self.x)?;
                if let Some(residual) = self.residual {
                    check_device(gpu, "residual", residual)?;
                    check_alike("residual", residual, self.x)?;
                }
                return Ok(());
            }
        };
        Err(TensorError::Residual { problem })
    }

    /// The parameters of the samples, whose rows are given; `None` if the rows are empty.
    pub(crate) fn affine_of(
        &self,
        gpu: &Gpu,
        rows: &AffineRows,
    ) -> Result<Option<&'a Tensor>, TensorError> {
        let values = rows.bytes() / 4;
        let Some(affine) = self.affine else {
            return match values {
                0 => Ok(None),
                _ => Err(TensorError::Affine {
                    problem: "is missing; give the samples' parameters with Input::affine",
                }),
            };
        };
        check_device(gpu, "affine", affine)?;
        if affine.dtype() != Dtype::F32 || affine.len() as u64 != values {
            return Err(TensorError::Shape {
                field: "affine",
                expected: format!("{values} values of f32"),
                got: affine.problem().to_string(),
            });
        }
        Ok(Some(affine).filter(|_| values > 0))
    }

    pub(crate) fn residual_slice(&self) -> Option<wgpu::BufferSlice<'a>> {
        self.residual.map(Tensor::slice)
    }
}
