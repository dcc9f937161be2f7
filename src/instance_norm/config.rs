//! The configuration of an InstanceNorm, in torch's words.

use crate::error::PlanError;
use crate::norm::options::{Epilogue, check_eps, setters};
use crate::norm::rows::{AffineRows, MomentRows, SavedRows};
use crate::norm::sample::SampleNorm;
use crate::shape::Shape;

/// The configuration of an InstanceNorm layer, with torch's names and defaults.
///
/// ```
/// use wgpu_norm::InstanceNormConfig;
/// let config = InstanceNormConfig::new(64).affine(true).eps(1e-3);
/// assert_eq!(config.num_features, 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct InstanceNormConfig {
    /// `C`, the number of channels.
    pub num_features: usize,
    /// Added to the variance, inside the root. Default 1e-5.
    pub eps: f32,
    /// Whether the output is scaled by a learned weight. Default false.
    pub weight: bool,
    /// Whether a learned bias is added. Default false.
    pub bias: bool,
    /// Whether each sample has a weight and a bias of its own, which are given with each call: AdaLN, AdaIN, FiLM. Default
    /// false.
    pub per_sample: bool,
    /// Whether the output is scaled by `1 + weight`, and a new layer's weight is 0. The sum is f32. Default false.
    pub unit_offset: bool,
    /// Whether a forward plan also leaves the moments of each instance, for running statistics
    /// ([`ForwardBuffers::moments`](super::ForwardBuffers::moments)). The layer that keeps those is
    /// [`TrackedInstanceNorm`](crate::TrackedInstanceNorm). Default false.
    pub track_running_stats: bool,
    /// What follows the normalization in the same pass. Default nothing.
    pub epilogue: Epilogue,
}

setters!(InstanceNormConfig:
    eps: f32, weight: bool, bias: bool, per_sample: bool, unit_offset: bool, track_running_stats: bool,
    epilogue: Epilogue);

impl InstanceNormConfig {
    /// torch's defaults for `num_features` channels.
    pub const fn new(num_features: usize) -> Self {
        Self {
            num_features,
            eps: 1e-5,
            weight: false,
            bias: false,
            per_sample: false,
            unit_offset: false,
            track_running_stats: false,
            epilogue: Epilogue::Identity,
        }
    }

    /// Sets both [`weight`](Self::weight) and [`bias`](Self::bias).
    pub const fn affine(self, affine: bool) -> Self {
        self.weight(affine).bias(affine)
    }

    /// The rows of a layer's parameters, and of their gradients. For plans see
    /// [`affine_rows_of`](SampleNorm::affine_rows_of).
    pub fn affine_rows(&self) -> AffineRows {
        SampleNorm::affine_rows(self)
    }

    /// The rows of the buffer `saved` for a batch of this many samples: `N * C` statistics, those of one sample after the
    /// other.
    pub fn saved_rows(&self, samples: usize) -> SavedRows {
        SavedRows::new(self.num_features.saturating_mul(samples))
    }

    /// The rows of the buffer `moments` for a batch of this many samples, in the order of [`saved_rows`](Self::saved_rows);
    /// `None` without [`track_running_stats`](Self::track_running_stats).
    pub fn moment_rows(&self, samples: usize) -> Option<MomentRows> {
        let instances = self.num_features.saturating_mul(samples);
        self.track_running_stats.then(|| MomentRows::new(instances))
    }

    /// Checks what does not depend on a shape.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if self.num_features == 0 {
            return Err(PlanError::ZeroChannels);
        }
        check_eps(self.eps)
    }

    /// Checks that the shape's instances can be normalized by their own statistics.
    pub(crate) fn check_shape(&self, shape: Shape) -> Result<(), PlanError> {
        if shape.channels() != self.num_features {
            return Err(PlanError::Channels {
                expected: self.num_features,
                got: shape.channels(),
                shape,
            });
        }
        match shape.plane() {
            Some(1) => Err(PlanError::TooFewSpatialValues { shape }),
            _ => Ok(()),
        }
    }
}
