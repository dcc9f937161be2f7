//! Choices that all norms offer.

use crate::error::PlanError;
use crate::gpu::compose::Choice;
use crate::word::words;

/// What follows the normalization in the same pass over memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Epilogue {
    /// Nothing: `y = norm(x)`.
    #[default]
    Identity,
    /// `y = relu(norm(x))`. Backward computes again from `x` where the value passed, so that the forward pass saves
    /// nothing for it.
    Relu,
    /// `y = relu(norm(x) + residual)`. Backward reads from `y` where the sum passed, and writes the gradient of the
    /// residual, too.
    AddRelu,
    /// `y = silu(norm(x))`, with `silu(v) = v / (1 + exp(-v))`, which is also called swish. Backward computes the slope again
    /// from `x`.
    Silu,
}

words!(Epilogue, "epilogue", "identity, relu, add-relu or silu":
    Identity "identity", Relu "relu", AddRelu "add-relu", Silu "silu");

impl Epilogue {
    /// The file that forward kernels import as `epilogue`.
    pub(crate) const fn forward(self) -> Choice {
        let file = match self {
            Self::Identity => "epilogue_identity",
            Self::Relu => "epilogue_relu",
            Self::AddRelu => "epilogue_add_relu",
            Self::Silu => "epilogue_silu",
        };
        ("epilogue", file)
    }

    /// The files that the first backward kernel imports as `incoming` and `epilogue_backward`.
    pub(crate) const fn backward(self) -> [Choice; 2] {
        let file = match self {
            Self::Identity => "epilogue_backward_identity",
            Self::Relu => "epilogue_backward_relu",
            Self::AddRelu => "epilogue_backward_add_relu",
            Self::Silu => "epilogue_backward_silu",
        };
        [("incoming", "incoming_dy"), ("epilogue_backward", file)]
    }

    /// The same for a kernel that runs after the first.
    pub(crate) const fn backward_again(self) -> [Choice; 2] {
        match self {
            // The first kernel has left the gradient as that of the residual.
            Self::AddRelu => [
                ("incoming", "incoming_dresidual"),
                ("epilogue_backward", "epilogue_backward_identity"),
            ],
            Self::Identity | Self::Relu | Self::Silu => self.backward(),
        }
    }

    /// Whether the gradient of the normalized values is that of the output or zero, so that the storage type holds it
    /// exactly.
    pub(crate) const fn masks(self) -> bool {
        match self {
            Self::Identity | Self::Relu | Self::AddRelu => true,
            Self::Silu => false,
        }
    }

    /// Whether it adds a second tensor.
    pub const fn adds(self) -> bool {
        match self {
            Self::AddRelu => true,
            Self::Identity | Self::Relu | Self::Silu => false,
        }
    }
}

/// Where an elementwise result goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// Into memory of its own.
    #[default]
    OutOfPlace,
    /// Over the tensor that it is computed from: `y` over `x`, `dx` over `dy`.
    InPlace,
}

words!(Destination, "destination", "out-of-place or in-place":
    OutOfPlace "out-of-place", InPlace "in-place");

impl Destination {
    /// The file that forward kernels import as `y`.
    pub(crate) const fn y(self) -> Choice {
        let file = match self {
            Self::OutOfPlace => "y_out_of_place",
            Self::InPlace => "y_in_place",
        };
        ("y", file)
    }

    /// The file that backward kernels import as `dx`.
    pub(crate) const fn dx(self) -> Choice {
        let file = match self {
            Self::OutOfPlace => "dx_out_of_place",
            Self::InPlace => "dx_in_place",
        };
        ("dx", file)
    }
}

/// What a backward pass does with the gradients of weight and bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParameterGradients {
    /// It does not compute them.
    Skip,
    /// It overwrites the buffer.
    #[default]
    Overwrite,
    /// It adds them to the buffer.
    Accumulate,
}

words!(ParameterGradients, "parameters", "skip, overwrite or accumulate":
    Skip "skip", Overwrite "overwrite", Accumulate "accumulate");

/// Writes a builder method for each field of an options struct.
macro_rules! setters {
    ($type:ident: $($field:ident: $of:ty),+ $(,)?) => {
        impl $type {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self::", stringify!($field), ").")]
                pub const fn $field(mut self, $field: $of) -> Self {
                    self.$field = $field;
                    self
                }
            )+
        }
    };
}
pub(crate) use setters;

/// Checks an `eps` that is added to the variance of the values at hand, which may be zero.
pub(crate) fn check_eps(eps: f32) -> Result<(), PlanError> {
    match eps > 0.0 && eps.is_finite() {
        true => Ok(()),
        false => Err(PlanError::Eps {
            eps,
            needed: "positive",
        }),
    }
}
