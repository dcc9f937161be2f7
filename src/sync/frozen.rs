//! A layer whose statistics never move again.

use super::layer::SyncBatchNorm;
use crate::batch_norm::{
    BackwardError, BatchNorm, BatchNormConfig, Gradients, Input, Saved, Wanted,
};
use crate::error::{Error, PlanError};
use crate::gpu::{Gpu, Tensor};

/// A BatchNorm that normalizes by its running statistics always, and never moves them: for fine-tuning with batches too
/// small for statistics. Weight and bias may still be trained. Nothing is exchanged between ranks. Made by
/// [`BatchNorm::to_frozen`] and [`SyncBatchNorm::to_frozen`].
#[derive(Debug)]
pub struct FrozenBatchNorm(BatchNorm);

impl BatchNorm {
    /// The layer without a way to move its running statistics.
    ///
    /// # Errors
    /// [`PlanError::NoRunningStatistics`] if it has none. The layer is gone then.
    pub fn to_frozen(self) -> Result<FrozenBatchNorm, PlanError> {
        match self.config().track_running_stats {
            true => Ok(FrozenBatchNorm(self)),
            false => Err(PlanError::NoRunningStatistics),
        }
    }
}

impl SyncBatchNorm {
    /// As [`BatchNorm::to_frozen`].
    ///
    /// # Errors
    /// As [`BatchNorm::to_frozen`].
    pub fn to_frozen(self) -> Result<FrozenBatchNorm, PlanError> {
        self.to_local().to_frozen()
    }
}

impl FrozenBatchNorm {
    /// The layer with a way to move its running statistics, which are as they were.
    pub fn to_local(self) -> BatchNorm {
        self.0
    }

    /// The layer of this rank: its parameters, its running statistics and its state.
    pub fn local(&self) -> &BatchNorm {
        &self.0
    }

    /// As [`local`](Self::local), to load a state or set parameters.
    pub fn local_mut(&mut self) -> &mut BatchNorm {
        &mut self.0
    }

    /// The configuration that the layer was made with.
    pub fn config(&self) -> &BatchNormConfig {
        self.0.config()
    }

    /// The device of the layer.
    pub fn gpu(&self) -> &Gpu {
        self.0.gpu()
    }

    /// Forward, to be trained through: [`BatchNorm::frozen`].
    ///
    /// # Errors
    /// As [`BatchNorm::frozen`].
    pub fn frozen<'a>(&self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        self.0.frozen(input)
    }

    /// Forward without backward: [`BatchNorm::eval`].
    ///
    /// # Errors
    /// As [`BatchNorm::eval`].
    pub fn eval<'a>(&self, input: impl Into<Input<'a>>) -> Result<Tensor, Error> {
        self.0.eval(input)
    }

    /// The gradients: [`BatchNorm::backward`].
    ///
    /// # Errors
    /// As [`BatchNorm::backward`].
    pub fn backward(&self, saved: Saved, dy: &Tensor) -> Result<Gradients, BackwardError> {
        self.0.backward(saved, dy)
    }

    /// The gradients that are wanted: [`BatchNorm::backward_with`].
    ///
    /// # Errors
    /// As [`BatchNorm::backward_with`].
    pub fn backward_with(
        &self,
        saved: Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<Gradients<Option<Tensor>>, BackwardError> {
        self.0.backward_with(saved, dy, wanted)
    }
}
