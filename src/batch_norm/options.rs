//! What a caller may ask of a pass, beyond the layer's configuration.

use crate::norm::options::{Destination, ParameterGradients, setters};
use crate::norm::tuning::Tuning;

/// How a training pass runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct TrainOptions {
    /// Strategy and tile.
    pub tuning: Tuning,
}

setters!(TrainOptions: tuning: Tuning);

/// How an evaluation pass runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct EvalOptions {
    /// Where the output goes. In place needs running statistics.
    pub y: Destination,
    /// Strategy and tile.
    pub tuning: Tuning,
}

setters!(EvalOptions: y: Destination, tuning: Tuning);

/// What a backward pass computes, and how it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BackwardOptions {
    /// Whether the forward pass normalized by running statistics, which are constants.
    pub frozen: bool,
    /// Where the input's gradient goes; `None` if it is not wanted.
    pub dx: Option<Destination>,
    /// What becomes of the parameters' gradients.
    pub parameters: ParameterGradients,
    /// Strategy and tile. A strategy can be forced where there is a choice: with frozen statistics, with an epilogue that
    /// adds, or without dx there is none.
    pub tuning: Tuning,
}

impl Default for BackwardOptions {
    /// All gradients of a training pass, each in memory of its own.
    fn default() -> Self {
        Self {
            frozen: false,
            dx: Some(Destination::OutOfPlace),
            parameters: ParameterGradients::Overwrite,
            tuning: Tuning::default(),
        }
    }
}

setters!(BackwardOptions:
    frozen: bool, dx: Option<Destination>, parameters: ParameterGradients, tuning: Tuning);

/// How one of the pieces runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PieceOptions {
    /// Where the result of an elementwise piece goes: `y` or `dx`. The others have no such result.
    pub destination: Destination,
    /// Strategy and tile. The pieces of a pass have no choice of strategy but split.
    pub tuning: Tuning,
}

setters!(PieceOptions: destination: Destination, tuning: Tuning);
