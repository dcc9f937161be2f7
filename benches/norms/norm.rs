//! What the benchmark asks of a problem line, whatever its norm.

use std::fmt;
use std::ops::Range;

use wgpu_norm::batch_norm::{
    AffineRows, Common, Destination, Epilogue, MomentRows, ParameterGradients, Tuner, Tuning,
};
use wgpu_norm::reference::compare::Bound;
use wgpu_norm::{Caps, Error, Form, Gpu, Launch, PlanError};

use crate::oracle::Oracle;
use crate::steps::Steps;
use crate::tensors::{Small, Tensors};

/// A problem line.
pub trait Norm: fmt::Display {
    fn common(&self) -> &Common;

    fn common_mut(&mut self) -> &mut Common;

    fn epilogue(&self) -> Epilogue;

    fn kind(&self) -> Kind;

    /// Whether a residual is added before the norm.
    fn prenorm(&self) -> bool {
        false
    }

    /// Whether normalized values are rounded as they are stored before the weight multiplies them.
    fn rounds_before_weight(&self) -> bool {
        false
    }

    /// The word of its pass if that is the pass of lines that name none.
    fn default_pass(&self) -> Option<&'static str>;

    /// Makes it one of the usual passes; `false` if the norm has no such pass.
    fn take(&mut self, usual: Usual) -> bool;

    /// Makes it the forward pass of the same tensors with this epilogue, and nothing forced.
    fn prepare(&mut self, epilogue: Epilogue);

    /// Makes it the pass whose results its own pass is given, beside those of the forward pass; `false` if there is none.
    fn make_sums(&mut self) -> bool {
        false
    }

    /// The tensor that its result goes over, if it goes over one.
    fn overwrites(&self) -> Option<&'static str>;

    /// Tensors that must be read or written, each once.
    fn tensors(&self) -> u64;

    /// What to compare after a run.
    fn written(&self, tensors: &Tensors) -> anyhow::Result<Vec<Written>>;

    /// The norm in f64, without its epilogue, for the verified values.
    fn oracle<'a>(&self, tensors: &'a Tensors) -> Box<dyn Oracle + 'a>;

    /// The sizes of the buffers that are no activations.
    fn small(&self) -> Small;

    fn launches(&self, caps: &Caps, form: Form) -> Result<Vec<Launch>, PlanError>;

    /// The choice of a tuner for the pass.
    fn measured(&self, tuner: &mut Tuner) -> Result<Tuning, Error>;

    /// Plans it and binds it to each set of tensors. The result is "out"; what goes in place is there to begin with.
    fn bind(&self, gpu: &Gpu, tensors: &Tensors) -> anyhow::Result<Steps>;
}

/// What a pass is, for the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Forward,
    Eval,
    Backward,
    FrozenBackward,
    Piece,
}

/// What a pass writes.
pub enum Written {
    /// y, in "out".
    Y,
    /// The sum of x and the residual, in "added".
    Added,
    /// dx, in "out".
    Dx,
    /// The gradients of weight and bias, in these rows of a buffer.
    Parameters {
        buffer: &'static str,
        rows: [Option<Range<u64>>; 2],
    },
    /// The gradient of the residual, in "dresidual".
    Residual,
    /// These values, in a row of a buffer.
    Row {
        buffer: &'static str,
        row: Range<u64>,
        values: Vec<f64>,
        bound: Bound,
    },
}

impl Written {
    /// Means and sums of squared deviations, in "moments".
    pub fn moments(rows: MomentRows, mean: Vec<f64>, m2: Vec<f64>) -> Vec<Self> {
        let row = |row, values, bound| Self::Row {
            buffer: "moments",
            row,
            values,
            bound,
        };
        vec![
            row(rows.mean, mean, Bound::new(2e-6, 2e-5)),
            row(rows.m2, m2, Bound::new(1e-5, 0.0)),
        ]
    }

    /// The buffer that holds it.
    pub fn buffer(&self) -> &'static str {
        match self {
            Self::Y | Self::Dx => "out",
            Self::Added => "added",
            Self::Parameters { buffer, .. } | Self::Row { buffer, .. } => buffer,
            Self::Residual => "dresidual",
        }
    }
}

/// What a whole backward pass writes.
pub fn backward_written(
    dx: Option<Destination>,
    parameters: ParameterGradients,
    rows: AffineRows,
    adds: bool,
) -> Vec<Written> {
    let mut written = Vec::new();
    written.extend(dx.map(|_| Written::Dx));
    if parameters != ParameterGradients::Skip {
        written.push(Written::Parameters {
            buffer: "grads",
            rows: [rows.weight, rows.bias],
        });
    }
    written.extend(adds.then_some(Written::Residual));
    written
}

/// The passes of a line that names none: of those that its norm has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Usual {
    Train,
    Eval,
    /// Of norms without running statistics, in training and outside of it.
    Forward,
    Backward,
    FrozenBackward,
    /// ReLU in the same pass.
    TrainRelu,
    /// ReLU in a pass of its own, by a kernel of the benchmark for f32.
    TrainThenRelu,
}

impl Usual {
    pub const ALL: &[Self] = &[
        Self::Train,
        Self::Eval,
        Self::Forward,
        Self::Backward,
        Self::FrozenBackward,
        Self::TrainRelu,
        Self::TrainThenRelu,
    ];
}
