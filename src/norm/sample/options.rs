//! What a caller may ask of a pass, beyond the layer's configuration.

use crate::norm::options::{Destination, ParameterGradients, setters};
use crate::norm::tuning::Tuning;

/// How a forward pass runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ForwardOptions {
    /// Strategy and tile.
    pub tuning: Tuning,
    /// Whether a residual is added to the input first, `y = norm(x + residual)`, as in blocks that normalize before they
    /// compute. The sum, rounded as it is stored, is an output, too.
    pub prenorm: bool,
}

setters!(ForwardOptions: tuning: Tuning, prenorm: bool);

/// What a backward pass computes, and how it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BackwardOptions {
    /// Where the input's gradient goes; `None` if it is not wanted.
    pub dx: Option<Destination>,
    /// What becomes of the parameters' gradients.
    pub parameters: ParameterGradients,
    /// Strategy and tile. An epilogue that adds, or a pass without dx, leaves no choice of strategy, and
    /// GroupNorm has one only. With SiLU, resident reads twice.
    pub tuning: Tuning,
    /// Whether the input went on by another way, too, as the sum of a pass with [`prenorm`](ForwardOptions::prenorm): that
    /// gradient of it is added to dx.
    pub prenorm: bool,
}

impl Default for BackwardOptions {
    /// All gradients, each in memory of its own.
    fn default() -> Self {
        Self {
            dx: Some(Destination::OutOfPlace),
            parameters: ParameterGradients::Overwrite,
            tuning: Tuning::default(),
            prenorm: false,
        }
    }
}

setters!(BackwardOptions:
    dx: Option<Destination>, parameters: ParameterGradients, tuning: Tuning, prenorm: bool);
