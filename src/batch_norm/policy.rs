//! What a BatchNorm does where frameworks differ: how running statistics move, and what a batch without a variance, or with
//! values that are not finite, does to them.

use crate::word::words;

/// How much of a new batch goes into the running statistics, in the convention of torch or of Keras.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Momentum {
    /// The share of the new batch: `(1 - momentum) * old + momentum * new`. torch, cuDNN, burn.
    Torch(f32),
    /// The share that the old statistics keep: `momentum * old + (1 - momentum) * new`. Keras, Flax, ONNX.
    Keras(f32),
    /// Each batch counts the same, whatever its size. torch's `momentum=None`.
    Cumulative,
}

impl Momentum {
    /// The share of a new batch; `None` if it depends on the number of batches.
    pub fn share(self) -> Option<f32> {
        match self {
            Self::Torch(momentum) => Some(momentum),
            // The difference of f64 is exact, and so is that of f32 for a momentum of 0.5 or more.
            Self::Keras(momentum) => Some((1.0 - f64::from(momentum)) as f32),
            Self::Cumulative => None,
        }
    }
}

impl From<f32> for Momentum {
    /// In torch's convention.
    fn from(momentum: f32) -> Self {
        Self::Torch(momentum)
    }
}

impl From<Option<f32>> for Momentum {
    /// In torch's convention.
    fn from(momentum: Option<f32>) -> Self {
        momentum.map_or(Self::Cumulative, Self::Torch)
    }
}

/// Which variance of a batch goes into the running variance. Normalization takes the biased one in every framework.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RunningVariance {
    /// The sum of squared deviations over one value less than there are, which estimates that of all data. torch, cuDNN.
    #[default]
    Unbiased,
    /// The mean of the squared deviations. Keras, Flax, ONNX, burn.
    Biased,
}

words!(RunningVariance, "running_variance", "unbiased or biased":
    Unbiased "unbiased", Biased "biased");

/// What training does with one value a channel: a batch of one, of one spatial position. Its variance is zero, so that
/// normalization by it gives the bias whatever the value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SingleValue {
    /// [`PlanError::TooFewValues`](crate::PlanError::TooFewValues), as in torch. A piece, which finds the number of values on
    /// the device, moves no statistics then.
    #[default]
    Error,
    /// Normalizes by it, and moves the running statistics by a variance of zero. Keras, Flax, ONNX, burn.
    Update,
    /// Normalizes by it, and moves nothing.
    Skip,
    /// Normalizes by the running statistics, as [`frozen`](super::BatchNorm::frozen), and moves nothing.
    Running,
}

words!(SingleValue, "single_value", "error, update, skip or running":
    Error "error", Update "update", Skip "skip", Running "running");

/// What a channel of a batch does to its running statistics if its mean, or the sum of its squared deviations, is infinite or
/// NaN: because some value is, or because a sum is beyond f32. The output shows it in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NonFinite {
    /// It moves them, and they are never finite again. All frameworks.
    #[default]
    Propagate,
    /// It moves nothing, and is counted in [`num_batches_skipped`](super::State::num_batches_skipped). Other channels move.
    Skip,
    /// As `Skip`, and the next [`state`](super::BatchNorm::state) returns
    /// [`TensorError::NonFinite`](crate::TensorError::NonFinite), once.
    Error,
}

words!(NonFinite, "non_finite", "propagate, skip or error":
    Propagate "propagate", Skip "skip", Error "error");
