//! What a backward pass leaves, and what may be asked of it.

use std::ops::Range;

use super::parameters::read_row;
use super::{Saved, like};
use crate::error::Error;
use crate::gpu::{Gpu, Tensor};
use crate::norm::options::{Destination, ParameterGradients};
use crate::norm::rows::AffineRows;

/// The gradients that a backward pass of a layer is to compute, and where they go.
///
/// ```no_run
/// # use wgpu_norm::batch_norm::{Saved, Wanted};
/// # fn f(bn: &wgpu_norm::BatchNorm, first: Saved, second: Saved, dy: &wgpu_norm::Tensor) -> Result<(), wgpu_norm::Error> {
/// let gradients = bn.backward(first, dy)?;
/// // Adds the parameters' gradients of another batch to those of the first.
/// let wanted = Wanted::default().accumulate(gradients.buffer());
/// let second = bn.backward_with(second, dy, wanted)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Wanted<'a> {
    /// Where the gradient of the input goes; `None` if it is not wanted. In place overwrites `dy`.
    pub dx: Option<Destination>,
    /// Whether the gradients of weight and bias are wanted.
    pub parameters: bool,
    /// A buffer with rows of parameter gradients, to which those of this pass are added. Without one they are written to a
    /// new buffer.
    pub accumulate: Option<&'a wgpu::Buffer>,
    /// The gradient that the input has by another way, as the sum of a pre-norm block has, of the input's shape. It is added to
    /// dx, which must be wanted, before that is rounded. BatchNorm has no such pass.
    pub dadded: Option<&'a Tensor>,
}

impl Default for Wanted<'_> {
    /// All gradients, each in memory of its own.
    fn default() -> Self {
        Self {
            dx: Some(Destination::OutOfPlace),
            parameters: true,
            accumulate: None,
            dadded: None,
        }
    }
}

impl<'a> Wanted<'a> {
    /// Sets [`dx`](Self::dx).
    pub const fn dx(mut self, dx: Option<Destination>) -> Self {
        self.dx = dx;
        self
    }

    /// Sets [`parameters`](Self::parameters).
    pub const fn parameters(mut self, parameters: bool) -> Self {
        self.parameters = parameters;
        self
    }

    /// Sets [`accumulate`](Self::accumulate).
    pub fn accumulate(mut self, grads: impl Into<Option<&'a wgpu::Buffer>>) -> Self {
        self.accumulate = grads.into();
        self
    }

    /// Sets [`dadded`](Self::dadded).
    pub fn dadded(mut self, dadded: impl Into<Option<&'a Tensor>>) -> Self {
        self.dadded = dadded.into();
        self
    }

    pub(crate) const fn parameter_gradients(&self) -> ParameterGradients {
        match (self.parameters, self.accumulate) {
            (false, _) => ParameterGradients::Skip,
            (true, None) => ParameterGradients::Overwrite,
            (true, Some(_)) => ParameterGradients::Accumulate,
        }
    }

    /// Memory for the results: `grads_bytes` are the plan's.
    pub(crate) fn allocate(
        &self,
        saved: &Saved,
        dy: &Tensor,
        rows: AffineRows,
        grads_bytes: u64,
    ) -> Result<Gradients<Option<Tensor>>, Error> {
        let gpu = saved.x.gpu();
        let parameters = match (grads_bytes, self.accumulate) {
            (0, _) => None,
            (_, Some(buffer)) => Some(buffer.clone()),
            (bytes, None) => Some(gpu.new_buffer("gradients", bytes)?),
        };
        Ok(Gradients {
            dx: match self.dx {
                None => None,
                Some(Destination::InPlace) => Some(dy.clone()),
                Some(Destination::OutOfPlace) => Some(like(&saved.x)?),
            },
            dresidual: saved.y.as_ref().map(like).transpose()?,
            gpu: gpu.clone(),
            rows,
            parameters,
        })
    }
}

/// The gradients of one backward pass. `Dx` is an `Option` if the caller chose which gradients it wanted.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gradients<Dx = Tensor> {
    /// Of the input, of its shape.
    pub dx: Dx,
    /// Of the residual, if the epilogue adds one.
    pub dresidual: Option<Tensor>,
    gpu: Gpu,
    rows: AffineRows,
    parameters: Option<wgpu::Buffer>,
}

impl<Dx> Gradients<Dx> {
    /// The gradients of the parameters on the device: the f32 rows `[dweight] [dbias]` of those that the layer has, in
    /// the layout of its `affine_buffer`, for an optimizer's kernel; if each sample has parameters of its own, in that of its
    /// `affine_rows_of`. `None` for a layer without parameters, or if they were not
    /// wanted.
    pub fn buffer(&self) -> Option<&wgpu::Buffer> {
        self.parameters.as_ref()
    }

    /// The gradient of the weight, one value for each parameter; `None` if there is none. Waits for the device.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn weight(&self) -> Result<Option<Vec<f32>>, Error> {
        self.row(self.rows.weight.clone())
    }

    /// The gradient of the bias, one value for each parameter; `None` if there is none. Waits for the device.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn bias(&self) -> Result<Option<Vec<f32>>, Error> {
        self.row(self.rows.bias.clone())
    }

    fn row(&self, row: Option<Range<u64>>) -> Result<Option<Vec<f32>>, Error> {
        read_row(&self.gpu, self.parameters.as_ref(), row)
    }
}

impl Gradients<Option<Tensor>> {
    /// The memory of `dx`, unless it is that of `dy`.
    pub(crate) fn dx_slice(&self, wanted: Wanted<'_>) -> Option<wgpu::BufferSlice<'_>> {
        let dx = self.dx.as_ref();
        dx.filter(|_| wanted.dx == Some(Destination::OutOfPlace))
            .map(Tensor::slice)
    }

    /// All gradients, of a pass that was asked for all of them.
    pub(crate) fn all(self, dy: &Tensor) -> Gradients {
        Gradients {
            // It was wanted, so that it is there.
            dx: self.dx.unwrap_or_else(|| dy.clone()),
            dresidual: self.dresidual,
            gpu: self.gpu,
            rows: self.rows,
            parameters: self.parameters,
        }
    }
}
