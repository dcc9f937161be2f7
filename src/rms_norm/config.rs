//! The configuration of an RMSNorm, in torch's words.

use crate::error::PlanError;
use crate::norm::options::{Epilogue, setters};
use crate::norm::rows::{AffineRows, SavedRows};
use crate::norm::sample::SampleNorm;
use crate::norm::trailing;
use crate::word::words;

/// How often a 16-bit value is rounded on its way to the output. In f32 there is no difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rounding {
    /// `y = round(x_hat * weight + bias)`, as in torch's `RMSNorm`, which has no bias.
    #[default]
    Once,
    /// `y = round(round(x_hat) * weight + bias)`, as in models after Llama: the normalized value is converted to the storage type
    /// before the weight multiplies it. Without a weight, an epilogue has the rounded value.
    ///
    /// Backward is what autograd makes of that: the gradient of the weight is a sum of products with rounded values, and
    /// rounding has the slope 1. Only what is stored is rounded; autograd also rounds `dy * weight`.
    BeforeWeight,
}

words!(Rounding, "rounding", "once or before-weight": Once "once", BeforeWeight "before-weight");

/// The configuration of an RMSNorm layer, with torch's names and defaults.
///
/// A row is `normalized_size` neighbours in memory: the product of torch's `normalized_shape`. It must be the product of the
/// innermost extents of each tensor that the layer is given.
///
/// ```
/// use wgpu_norm::RmsNormConfig;
/// use wgpu_norm::rms_norm::Rounding;
/// let llama = RmsNormConfig::new(4096).eps(1e-5).rounding(Rounding::BeforeWeight);
/// let gemma = RmsNormConfig::new(2048).eps(1e-6).unit_offset(true);
/// assert_eq!(RmsNormConfig::new(64).eps, f32::EPSILON); // torch's `eps=None`
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RmsNormConfig {
    /// `L`, the number of values that share a root mean square.
    pub normalized_size: usize,
    /// Added to the mean of the squares, inside the root. Default `f32::EPSILON`, for every storage type: torch's `eps=None`
    /// is the epsilon of the type that it computes in.
    pub eps: f32,
    /// Whether the output is scaled by a learned weight, one for each value of a row. Default true.
    pub weight: bool,
    /// Whether a learned bias is added, one for each value of a row. Default false: torch's `RMSNorm` has none.
    pub bias: bool,
    /// Whether each sample has parameters of its own, which are given with each call. Default false.
    pub per_sample: bool,
    /// Whether the output is scaled by `1 + weight`, and a new layer's weight is 0: Gemma's form. The sum is f32. Default
    /// false.
    pub unit_offset: bool,
    /// Whether normalized values are rounded to the storage type before the weight multiplies them, too. Default once.
    pub rounding: Rounding,
    /// What follows the normalization in the same pass. Default nothing.
    pub epilogue: Epilogue,
}

setters!(RmsNormConfig: eps: f32, weight: bool, bias: bool, per_sample: bool, unit_offset: bool, rounding: Rounding,
    epilogue: Epilogue);

impl RmsNormConfig {
    /// torch's defaults for rows of `normalized_size` values.
    pub const fn new(normalized_size: usize) -> Self {
        Self {
            normalized_size,
            eps: f32::EPSILON,
            weight: true,
            bias: false,
            per_sample: false,
            unit_offset: false,
            rounding: Rounding::Once,
            epilogue: Epilogue::Identity,
        }
    }

    /// The rows of a layer's parameters, and of their gradients. For plans see
    /// [`affine_rows_of`](SampleNorm::affine_rows_of).
    pub fn affine_rows(&self) -> AffineRows {
        SampleNorm::affine_rows(self)
    }

    /// The rows of the buffer `saved` for a tensor of this many rows, each of which has one statistic. The means are zero, and
    /// `inv_std` is the reciprocal of the root of the mean square.
    pub fn saved_rows(&self, rows: usize) -> SavedRows {
        SavedRows::new(rows)
    }

    /// Checks what does not depend on a shape.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        trailing::check(self.normalized_size, self.eps)
    }
}
