//! The configuration of a LayerNorm, in torch's words.

use crate::error::PlanError;
use crate::norm::options::{Epilogue, setters};
use crate::norm::rows::{AffineRows, SavedRows};
use crate::norm::sample::SampleNorm;
use crate::norm::trailing;

/// The configuration of a LayerNorm layer, with torch's names and defaults.
///
/// A row is `normalized_size` neighbours in memory: the product of torch's `normalized_shape`. It must be the product of the
/// innermost extents of each tensor that the layer is given: `C` for `(N, ..., C)`, `C H W` for `(N, C, H, W)`.
///
/// ```
/// use wgpu_norm::LayerNormConfig;
/// let config = LayerNormConfig::new(768).bias(false);
/// assert_eq!((config.normalized_size, config.eps), (768, 1e-5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerNormConfig {
    /// `L`, the number of values that share statistics.
    pub normalized_size: usize,
    /// Added to the variance, inside the root. Default 1e-5.
    pub eps: f32,
    /// Whether the output is scaled by a learned weight, one for each value of a row. Default true.
    pub weight: bool,
    /// Whether a learned bias is added, one for each value of a row. Default true.
    pub bias: bool,
    /// Whether each sample has a weight and a bias of its own, which are given with each call: AdaLN, AdaIN, FiLM. Default
    /// false.
    pub per_sample: bool,
    /// Whether the output is scaled by `1 + weight`, and a new layer's weight is 0. The sum is f32. Default false.
    pub unit_offset: bool,
    /// What follows the normalization in the same pass. Default nothing.
    pub epilogue: Epilogue,
}

setters!(LayerNormConfig:
    eps: f32, weight: bool, bias: bool, per_sample: bool, unit_offset: bool, epilogue: Epilogue);

impl LayerNormConfig {
    /// torch's defaults for rows of `normalized_size` values.
    pub const fn new(normalized_size: usize) -> Self {
        Self {
            normalized_size,
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

    /// The rows of the buffer `saved` for a tensor of this many rows, each of which has one statistic.
    pub fn saved_rows(&self, rows: usize) -> SavedRows {
        SavedRows::new(rows)
    }

    /// Checks what does not depend on a shape.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        trailing::check(self.normalized_size, self.eps)
    }
}
