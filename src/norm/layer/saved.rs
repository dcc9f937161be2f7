//! What a forward pass leaves for backward.

use std::fmt::Debug;

use super::{LayerId, check_alike, check_device};
use crate::error::{Error, TensorError};
use crate::gpu::{Gpu, Tensor};
use crate::norm::options::Epilogue;

/// What a forward pass leaves for its backward pass, which consumes it. It holds the input, or the sum of a
/// pre-norm block, which must not be overwritten in between, the statistics, with an epilogue that adds the output, and the parameters of the
/// samples if they have their own.
#[derive(Debug)]
#[must_use = "backward needs it; use eval if there is no backward"]
pub struct Saved {
    layer: LayerId,
    pub(crate) x: Tensor,
    /// The output, if backward reads it.
    pub(crate) y: Option<Tensor>,
    /// The parameters of the samples, if they have their own.
    pub(crate) affine: Option<Tensor>,
    pub(crate) statistics: wgpu::Buffer,
    pub(crate) frozen: bool,
}

impl Saved {
    pub(crate) fn new(
        layer: LayerId,
        epilogue: Epilogue,
        x: &Tensor,
        y: &Tensor,
        statistics: wgpu::Buffer,
        frozen: bool,
    ) -> Self {
        Self {
            layer,
            x: x.clone(),
            y: epilogue.adds().then(|| y.clone()),
            affine: None,
            statistics,
            frozen,
        }
    }

    /// With the parameters of the samples.
    pub(crate) fn with_affine(self, affine: Option<&Tensor>) -> Self {
        Self {
            affine: affine.cloned(),
            ..self
        }
    }

    /// Is it the layer's?
    pub(crate) fn is_of(&self, layer: LayerId) -> bool {
        self.layer == layer
    }

    /// Is it the layer's, and do the gradients that are given fit?
    pub(crate) fn check(
        &self,
        layer: LayerId,
        gpu: &Gpu,
        dy: &Tensor,
        dadded: Option<&Tensor>,
    ) -> Result<(), TensorError> {
        if !self.is_of(layer) {
            return Err(TensorError::ForeignSaved);
        }
        let given = [("dy", Some(dy)), ("dadded", dadded)];
        for (field, tensor) in given {
            if let Some(tensor) = tensor {
                check_device(gpu, field, tensor)?;
                check_alike(field, tensor, &self.x)?;
            }
        }
        Ok(())
    }

    /// Gives the value back with the reason why backward was refused.
    pub(crate) fn refused(self, error: Error) -> BackwardError {
        BackwardError {
            saved: Box::new(self),
            error,
        }
    }

    /// The bytes of device memory that it holds until backward: the input, 12 for each statistic, with an epilogue that
    /// adds the output, and the parameters of the samples if they have their own.
    pub fn held_bytes(&self) -> u64 {
        let tensors = [Some(&self.x), self.y.as_ref(), self.affine.as_ref()];
        let held = tensors
            .into_iter()
            .flatten()
            .map(|tensor| tensor.buffer().size());
        held.sum::<u64>() + self.statistics.size()
    }
}

/// A backward pass that was refused. It gives `saved` back, so that the forward pass need not be repeated.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct BackwardError<S: Debug = Saved> {
    /// What the forward pass left.
    pub saved: Box<S>,
    /// Why backward was refused.
    #[source]
    pub error: Error,
}

impl<S: Debug> From<BackwardError<S>> for Error {
    fn from(refused: BackwardError<S>) -> Self {
        refused.error
    }
}
