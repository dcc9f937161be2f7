//! The conventions of other frameworks.

use super::config::BatchNormConfig;
use super::policy::{Momentum, RunningVariance, SingleValue};
use crate::word::words;

/// A framework whose batch normalization a configuration repeats: its defaults, and what it does to running statistics.
///
/// | preset | momentum | `eps` | running variance | one value a channel |
/// |---|---|---|---|---|
/// | `torch` | 0.1 of the new batch | 1e-5 | unbiased | error |
/// | `keras` | 0.99 of the old | 1e-3 | biased | updates |
/// | `flax` | 0.99 of the old | 1e-5 | biased | updates |
/// | `onnx` | 0.9 of the old | 1e-5 | biased | updates |
/// | `burn` | 0.1 of the new batch | 1e-5 | biased | updates |
///
/// Values that are not finite [propagate](super::NonFinite::Propagate) in all of them. Their axis of channels is a matter of
/// the [`Shape`](crate::Shape): the last one in Keras and Flax.
///
/// ```
/// use wgpu_norm::batch_norm::{Momentum, Preset, RunningVariance};
/// let config = Preset::Keras.config(64);
/// assert_eq!((config.eps, config.momentum), (1e-3, Momentum::Keras(0.99)));
/// assert_eq!(config.running_variance, RunningVariance::Biased);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Preset {
    /// PyTorch; cuDNN and MIOpen alike.
    Torch,
    /// Keras 3.
    Keras,
    /// Flax.
    Flax,
    /// ONNX `BatchNormalization`, opset 15.
    Onnx,
    /// burn.
    Burn,
}

words!(Preset, "preset", "torch, keras, flax, onnx or burn":
    Torch "torch", Keras "keras", Flax "flax", Onnx "onnx", Burn "burn");

impl Preset {
    /// The framework's defaults for `num_features` channels.
    pub fn config(self, num_features: usize) -> BatchNormConfig {
        let torch = BatchNormConfig::new(num_features);
        let biased = torch
            .running_variance(RunningVariance::Biased)
            .single_value(SingleValue::Update);
        match self {
            Self::Torch => torch,
            Self::Keras => biased.momentum(Momentum::Keras(0.99)).eps(1e-3),
            Self::Flax => biased.momentum(Momentum::Keras(0.99)),
            Self::Onnx => biased.momentum(Momentum::Keras(0.9)),
            Self::Burn => biased,
        }
    }
}
