//! Problem lines, as the crate's benchmark takes them, of what burn can do, too.

use std::error::Error;
use std::str::FromStr;

use wgpu_norm::layer_norm::Pass;
use wgpu_norm::{
    BatchNormConfig, Caps, Form, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Layout,
    RmsNormConfig, SampleLine, SampleNorm, Shape, batch_norm,
};

use crate::Result;

/// What to write for a line that says more.
const PLAIN: &str = "burn's norms are timed in f32, with all parameters, forward and backward; \
    write the norm, extents, a layout, groups=, size=, eps= and prenorm only";

/// A norm with all its parameters.
#[derive(Clone, Copy)]
pub enum Norm {
    Batch(BatchNormConfig),
    Group(GroupNormConfig),
    Instance(InstanceNormConfig),
    Layer(LayerNormConfig),
    Rms(RmsNormConfig),
}

impl Norm {
    /// The values of a row, if rows are what it normalizes.
    fn row(&self) -> Option<usize> {
        match self {
            Self::Layer(config) => Some(config.normalized_size),
            Self::Rms(config) => Some(config.normalized_size),
            _ => None,
        }
    }
}

/// What both sides compute: a norm of f32 values, in training.
#[derive(Clone)]
pub struct Problem {
    pub line: String,
    pub norm: Norm,
    pub shape: Shape,
    /// Whether a residual is added first.
    pub prenorm: bool,
}

impl Problem {
    /// The number of weights, which is that of biases.
    pub fn parameters(&self) -> usize {
        self.norm.row().unwrap_or(self.shape.channels())
    }

    /// The extents of burn's tensors, in the same memory order. burn's rows are the innermost axis.
    pub fn dims(&self) -> Vec<usize> {
        let dims = self.shape.dims();
        match self.norm.row() {
            Some(row) => vec![dims.iter().product::<usize>() / row, row],
            None => dims,
        }
    }

    /// A problem, where `plain` says that its line has nothing that burn lacks.
    fn new(line: &str, norm: Norm, shape: Shape, plain: bool, prenorm: bool) -> Result<Self> {
        if !plain {
            return Err(PLAIN.into());
        }
        if norm.row().is_none() && shape.layout() != Layout::ChannelsFirst {
            return Err("burn's norm takes channels first only".into());
        }
        Ok(Self {
            line: line.to_owned(),
            norm,
            shape,
            prenorm,
        })
    }
}

impl FromStr for Problem {
    type Err = Box<dyn Error + Send + Sync>;

    fn from_str(line: &str) -> Result<Self> {
        match line.split_whitespace().next() {
            Some("group") => sample(line, Norm::Group, |config| {
                GroupNormConfig::new(config.num_groups, config.num_channels).eps(config.eps)
            }),
            Some("instance") => sample(line, Norm::Instance, |config| {
                let plain = InstanceNormConfig::new(config.num_features).affine(true);
                plain.eps(config.eps)
            }),
            Some("layer") => sample(line, Norm::Layer, |config| {
                LayerNormConfig::new(config.normalized_size).eps(config.eps)
            }),
            Some("rms") => sample(line, Norm::Rms, |config| {
                RmsNormConfig::new(config.normalized_size).eps(config.eps)
            }),
            // A word without digits is no extents.
            Some(name) if !name.contains(|c: char| c.is_ascii_digit()) => {
                let first = "a line begins with instance, group, layer or rms, or for BatchNorm with its extents";
                Err(format!("{name:?} is no norm: {first}").into())
            }
            _ => batch(line),
        }
    }
}

fn batch(text: &str) -> Result<Problem> {
    let line: batch_norm::Line = text.parse()?;
    line.launches(&Caps::webgpu(), Form::default())?;
    let (shape, config) = (line.common.problem.shape, line.config);
    let plain = BatchNormConfig::new(config.num_features).eps(config.eps);
    let plain = batch_norm::Line::new(shape, &plain, batch_norm::Pass::Train);
    Problem::new(text, Norm::Batch(config), shape, line == plain, false)
}

/// The problem of a norm whose statistics come from each sample, where `plain` is its configuration without all that
/// burn lacks.
fn sample<C: SampleNorm>(text: &str, norm: fn(C) -> Norm, plain: fn(C) -> C) -> Result<Problem> {
    let line: SampleLine<C> = text.parse()?;
    // A norm that does not fit its shape is refused here.
    line.launches(&Caps::webgpu(), Form::default())?;
    let (shape, config) = (line.common.problem.shape, line.config);
    let mut alike = SampleLine::new(shape, &plain(config), Pass::Forward);
    alike.prenorm = line.prenorm;
    Problem::new(text, norm(config), shape, line == alike, line.prenorm)
}
