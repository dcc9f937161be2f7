//! The configuration of a GroupNorm, in torch's words.

use crate::error::PlanError;
use crate::norm::options::{Epilogue, check_eps, setters};
use crate::norm::rows::{AffineRows, SavedRows};
use crate::norm::sample::SampleNorm;
use crate::shape::Shape;

/// The configuration of a GroupNorm layer, with torch's names and defaults.
///
/// ```
/// use wgpu_norm::GroupNormConfig;
/// use wgpu_norm::group_norm::Epilogue;
/// let config = GroupNormConfig::new(32, 256).epilogue(Epilogue::Silu);
/// assert_eq!((config.num_groups, config.eps), (32, 1e-5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct GroupNormConfig {
    /// `G`, the number of groups of consecutive channels, which divides `num_channels`.
    pub num_groups: usize,
    /// `C`, the number of channels.
    pub num_channels: usize,
    /// Added to the variance, inside the root. Default 1e-5.
    pub eps: f32,
    /// Whether the output is scaled by a learned weight, one for each channel. Default true.
    pub weight: bool,
    /// Whether a learned bias is added, one for each channel. Default true.
    pub bias: bool,
    /// Whether each sample has a weight and a bias of its own, which are given with each call: AdaLN, AdaIN, FiLM. Default
    /// false.
    pub per_sample: bool,
    /// Whether the output is scaled by `1 + weight`, and a new layer's weight is 0. The sum is f32. Default false.
    pub unit_offset: bool,
    /// What follows the normalization in the same pass. Default nothing.
    pub epilogue: Epilogue,
}

setters!(GroupNormConfig:
    eps: f32, weight: bool, bias: bool, per_sample: bool, unit_offset: bool, epilogue: Epilogue);

impl GroupNormConfig {
    /// torch's defaults for `num_groups` groups of `num_channels` channels.
    pub const fn new(num_groups: usize, num_channels: usize) -> Self {
        Self {
            num_groups,
            num_channels,
            eps: 1e-5,
            weight: true,
            bias: true,
            per_sample: false,
            unit_offset: false,
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

    /// The rows of the buffer `saved` for a batch of this many samples: `N * G` statistics, those of one sample after the
    /// other.
    pub fn saved_rows(&self, samples: usize) -> SavedRows {
        SavedRows::new(self.num_groups.saturating_mul(samples))
    }

    /// The number of channels of a group, of a configuration that is checked.
    pub(crate) fn channels_of_group(&self) -> u32 {
        (self.num_channels / self.num_groups) as u32
    }

    /// Checks what does not depend on a shape.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        let unsupported = |field, reason| Err(PlanError::Unsupported { field, reason });
        if self.num_channels == 0 {
            return unsupported("num_channels", "must be at least 1");
        }
        if self.num_groups == 0 || !self.num_channels.is_multiple_of(self.num_groups) {
            return unsupported("num_groups", "must divide the number of channels");
        }
        check_eps(self.eps)
    }

    /// Checks that the shape's groups can be normalized.
    pub(crate) fn check_shape(&self, shape: Shape) -> Result<(), PlanError> {
        if shape.channels() != self.num_channels {
            return Err(PlanError::Channels {
                expected: self.num_channels,
                got: shape.channels(),
                shape,
            });
        }
        // As in torch: groups of one value become the bias, unless there is only one value in all.
        let one = self.num_channels == self.num_groups && shape.values_per_channel() == Some(1);
        match one {
            true => Err(PlanError::TooFewSpatialValues { shape }),
            false => Ok(()),
        }
    }
}
