//! What may be asked of a pass beyond the layer itself.

use super::tuning::Tuning;

/// What follows the normalization in the same pass over memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing: `y = bn(x)`.
    #[default]
    Identity,
    /// `y = relu(bn(x))`. Backward recomputes from `x` where the value passed, so that nothing more is kept.
    Relu,
    /// `y = relu(bn(x) + residual)`. Backward reads from `y` where the sum passed, and gives the residual's
    /// gradient too.
    AddRelu,
}

impl Epilogue {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Identity, Self::Relu, Self::AddRelu];

    /// The stem of the file that `epilogue` stands for in forward kernels.
    pub(crate) const fn forward_file(self) -> &'static str {
        match self {
            Self::Identity => "epilogue_identity",
            Self::Relu => "epilogue_relu",
            Self::AddRelu => "epilogue_add_relu",
        }
    }

    /// The stem of the file that `incoming` stands for in backward kernels.
    pub(crate) const fn backward_file(self) -> &'static str {
        match self {
            Self::Identity => "incoming_identity",
            Self::Relu => "incoming_relu",
            Self::AddRelu => "incoming_add_relu",
        }
    }

    /// Whether a second tensor is added.
    pub const fn adds(self) -> bool {
        matches!(self, Self::AddRelu)
    }
}

/// Where an elementwise result goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Into memory of its own.
    #[default]
    Apart,
    /// Over the input that it is made of: `y` over `x`, `dx` over `dy`.
    InPlace,
}

/// What becomes of the gradients of weight and bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ParameterGradients {
    /// They are not computed.
    Skip,
    /// They replace what is in the buffer.
    #[default]
    Overwrite,
    /// They are added to what is in the buffer.
    Accumulate,
}

/// What a backward pass computes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BackwardOptions {
    /// Whether the forward pass went by running statistics, which are constants.
    pub frozen: bool,
    /// Where the input's gradient goes; `None` if it is not wanted.
    pub dx: Option<Destination>,
    /// What becomes of the parameters' gradients.
    pub parameters: ParameterGradients,
    /// Overrides for tests and benchmarks.
    pub tuning: Tuning,
}

impl Default for BackwardOptions {
    /// All gradients of a training pass, each into memory of its own.
    fn default() -> Self {
        Self {
            frozen: false,
            dx: Some(Destination::Apart),
            parameters: ParameterGradients::Overwrite,
            tuning: Tuning::default(),
        }
    }
}

/// How an evaluation pass goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EvalOptions {
    /// Where the output goes. In place needs running statistics.
    pub y: Destination,
    /// Overrides for tests and benchmarks.
    pub tuning: Tuning,
}
