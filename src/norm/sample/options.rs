//! What a caller may ask of a pass, beyond the layer's configuration.

use crate::norm::options::{Destination, ParameterGradients, setters};
use crate::norm::tuning::Tuning;

/// How a forward pass runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ForwardOptions {
    /// Strategy and tile.
    pub tuning: Tuning,
}

setters!(ForwardOptions: tuning: Tuning);

/// What a backward pass computes, and how it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BackwardOptions {
    /// Where the input's gradient goes; `None` if it is not wanted.
    pub dx: Option<Destination>,
    /// What becomes of the parameters' gradients.
    pub parameters: ParameterGradients,
    /// Strategy and tile. An epilogue that adds, or a pass without dx, leaves no choice of strategy.
    pub tuning: Tuning,
}

impl Default for BackwardOptions {
    /// All gradients, each in memory of its own.
    fn default() -> Self {
        Self {
            dx: Some(Destination::OutOfPlace),
            parameters: ParameterGradients::Overwrite,
            tuning: Tuning::default(),
        }
    }
}

setters!(BackwardOptions:
    dx: Option<Destination>, parameters: ParameterGradients, tuning: Tuning);
