//! BatchNorm's problem lines.

use std::fmt;
use std::str::FromStr;

use super::config::BatchNormConfig;
use super::options::{BackwardOptions, EvalOptions, PieceOptions, TrainOptions};
use super::policy::Momentum;
use super::program::Params;
use super::{program, program_pieces};
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::program::Program;
use crate::gpu::{Caps, Form, Launch};
use crate::norm::line::Common;
use crate::norm::options::{Destination, ParameterGradients};
use crate::word::WordError;

/// A pass of BatchNorm, or one of its pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pass {
    /// `train`
    Train,
    /// `eval`, with `in-place`
    Eval(Destination),
    /// `backward` or `frozen-backward`, with `in-place` or `no-dx`, and with `skip` or `accumulate`
    Backward {
        /// Whether the forward pass normalized by running statistics.
        frozen: bool,
        /// Where dx goes.
        dx: Option<Destination>,
        /// What becomes of the parameters' gradients.
        parameters: ParameterGradients,
    },
    /// `stats`
    Stats,
    /// `combine=3`, of this many parts
    Combine(u32),
    /// `finalize=1`, of this many parts
    Finalize(u32),
    /// `instances`, as many as the shape has samples
    Instances,
    /// `apply`, with `in-place`
    Apply(Destination),
    /// `backward-reduce`
    BackwardReduce,
    /// `backward-combine=3`, of this many parts
    BackwardCombine(u32),
    /// `backward-apply`, with `in-place`
    BackwardApply(Destination),
}

impl Pass {
    /// A backward pass that computes all gradients, each in memory of its own.
    pub const fn backward(frozen: bool) -> Self {
        Self::Backward {
            frozen,
            dx: Some(Destination::OutOfPlace),
            parameters: ParameterGradients::Overwrite,
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        let parts = |prefix| word.strip_prefix(prefix)?.parse().ok();
        Some(match word {
            "train" => Self::Train,
            "eval" => Self::Eval(Destination::OutOfPlace),
            "backward" => Self::backward(false),
            "frozen-backward" => Self::backward(true),
            "stats" => Self::Stats,
            "instances" => Self::Instances,
            "apply" => Self::Apply(Destination::OutOfPlace),
            "backward-reduce" => Self::BackwardReduce,
            "backward-apply" => Self::BackwardApply(Destination::OutOfPlace),
            _ => parts("combine=")
                .map(Self::Combine)
                .or_else(|| parts("finalize=").map(Self::Finalize))
                .or_else(|| parts("backward-combine=").map(Self::BackwardCombine))?,
        })
    }

    /// Takes a word that says more of the pass; `false` if the pass has no use for it.
    fn refine(&mut self, word: &str) -> bool {
        match (word, &mut *self) {
            ("in-place", Self::Eval(place) | Self::Apply(place) | Self::BackwardApply(place)) => {
                *place = Destination::InPlace;
            }
            ("in-place", Self::Backward { dx, .. }) => *dx = Some(Destination::InPlace),
            ("no-dx", Self::Backward { dx, .. }) => *dx = None,
            ("skip", Self::Backward { parameters, .. }) => *parameters = ParameterGradients::Skip,
            ("accumulate", Self::Backward { parameters, .. }) => {
                *parameters = ParameterGradients::Accumulate;
            }
            _ => return false,
        }
        true
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, place) = match *self {
            Self::Train => ("train", None),
            Self::Eval(place) => ("eval", Some(place)),
            Self::Stats => ("stats", None),
            Self::Combine(parts) => return write!(f, "combine={parts}"),
            Self::Finalize(parts) => return write!(f, "finalize={parts}"),
            Self::Instances => ("instances", None),
            Self::Apply(place) => ("apply", Some(place)),
            Self::BackwardReduce => ("backward-reduce", None),
            Self::BackwardCombine(parts) => return write!(f, "backward-combine={parts}"),
            Self::BackwardApply(place) => ("backward-apply", Some(place)),
            Self::Backward {
                frozen: false, dx, ..
            } => ("backward", dx),
            Self::Backward {
                frozen: true, dx, ..
            } => ("frozen-backward", dx),
        };
        f.write_str(word)?;
        if place == Some(Destination::InPlace) {
            f.write_str(" in-place")?;
        }
        if let Self::Backward { dx, parameters, .. } = *self {
            if dx.is_none() {
                f.write_str(" no-dx")?;
            }
            if parameters != ParameterGradients::Overwrite {
                write!(f, " {parameters}")?;
            }
        }
        Ok(())
    }
}

/// A problem line: all that the dispatches of one pass depend on. Tests, the benchmark and `explain` print and take it.
///
/// ```
/// use wgpu_norm::batch_norm::Line;
/// let line: Line = "n32c64h56w56 nchw f16 relu backward in-place no-bias split 256x32".parse()?;
/// assert_eq!(line.to_string(), "n32c64h56w56 nchw f16 relu backward in-place no-bias split 256x32");
/// let launches = line.launches(&wgpu_norm::Caps::webgpu(), Default::default())?;
/// assert_eq!(launches[0].label, "batch_norm.backward_stats");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Further words: `no-weight`, `no-bias`, `untracked`, `eps=0.001`, `momentum=0.3`, `keras-momentum=0.99`, `cumulative`,
/// `biased`, `single=update`, `non-finite=skip`; `gpu` to plan as for a GPU; `binding=1024` for a lower limit of bindings.
/// Without a pass the line is that of `train`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Line {
    /// What the lines of all norms have.
    pub common: Common,
    /// The configuration.
    pub config: BatchNormConfig,
    /// The pass.
    pub pass: Pass,
}

impl Line {
    /// A line of a configuration and a pass.
    pub fn new(problem: impl Into<Problem>, config: &BatchNormConfig, pass: Pass) -> Self {
        Self {
            common: Common::new(problem),
            config: *config,
            pass,
        }
    }

    /// The dispatches for a device with these properties.
    pub(crate) fn program(&self, caps: &Caps) -> Result<Program<Params>, PlanError> {
        let caps = &self.common.caps(caps);
        let (problem, config, tuning) = (self.common.problem, &self.config, self.common.tuning);
        let piece = PieceOptions::default().tuning(tuning);
        match self.pass {
            Pass::Train => program::train(caps, problem, config, TrainOptions { tuning }),
            Pass::Eval(y) => program::eval(caps, problem, config, EvalOptions { y, tuning }),
            Pass::Backward {
                frozen,
                dx,
                parameters,
            } => {
                let options = BackwardOptions {
                    frozen,
                    dx,
                    parameters,
                    tuning,
                };
                program::backward(caps, problem, config, options)
            }
            Pass::Stats => program_pieces::stats(caps, problem, config, piece),
            Pass::Combine(parts) => program_pieces::combine(caps, config, parts),
            Pass::Finalize(parts) => program_pieces::finalize(caps, config, parts),
            Pass::Instances => {
                // A tensor with more samples has too many values.
                let samples = problem.shape.batch().try_into().unwrap_or(u32::MAX);
                program_pieces::instances(caps, config, samples)
            }
            Pass::Apply(y) => program_pieces::apply(caps, problem, config, piece.destination(y)),
            Pass::BackwardReduce => program_pieces::backward_reduce(caps, problem, config, piece),
            Pass::BackwardCombine(parts) => program_pieces::backward_combine(caps, config, parts),
            Pass::BackwardApply(dx) => {
                program_pieces::backward_apply(caps, problem, config, piece.destination(dx))
            }
        }
    }

    /// The dispatches as data, for a device with these properties.
    ///
    /// # Errors
    /// [`PlanError`] if there is no plan.
    pub fn launches(&self, caps: &Caps, form: Form) -> Result<Vec<Launch>, PlanError> {
        self.program(caps)?.describe(caps, form)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let defaults = BatchNormConfig::new(self.config.num_features);
        let BatchNormConfig {
            eps,
            momentum,
            weight,
            bias,
            track_running_stats,
            running_variance,
            single_value,
            non_finite,
            ..
        } = self.config;
        let mut own = self.pass.to_string();
        for (present, word) in [
            (weight, " no-weight"),
            (bias, " no-bias"),
            (track_running_stats, " untracked"),
        ] {
            own += if present { "" } else { word };
        }
        if eps != defaults.eps {
            own += &format!(" eps={eps}");
        }
        if momentum != defaults.momentum {
            own += &match momentum {
                Momentum::Torch(share) => format!(" momentum={share}"),
                Momentum::Keras(kept) => format!(" keras-momentum={kept}"),
                Momentum::Cumulative => " cumulative".to_owned(),
            };
        }
        if running_variance != defaults.running_variance {
            own += &format!(" {running_variance}");
        }
        if single_value != defaults.single_value {
            own += &format!(" single={single_value}");
        }
        if non_finite != defaults.non_finite {
            own += &format!(" non-finite={non_finite}");
        }
        self.common.write(f, self.config.epilogue, &own)
    }
}

impl FromStr for Line {
    type Err = WordError;

    fn from_str(line: &str) -> Result<Self, WordError> {
        let mut pass = None;
        let mut later = Vec::new();
        let mut config = BatchNormConfig::new(1);
        let common = Common::parse(line, |word| {
            let number = |prefix: &str| {
                let digits = word.strip_prefix(prefix)?;
                Some(
                    digits
                        .parse::<f32>()
                        .map_err(|_| WordError::new("line", word, "a number")),
                )
            };
            match word {
                "no-weight" => config.weight = false,
                "no-bias" => config.bias = false,
                "untracked" => config.track_running_stats = false,
                "cumulative" => config.momentum = Momentum::Cumulative,
                "in-place" | "no-dx" | "skip" | "accumulate" => later.push(word.to_owned()),
                _ => {
                    if let Some(eps) = number("eps=") {
                        config.eps = eps?;
                    } else if let Some(momentum) = number("momentum=") {
                        config.momentum = Momentum::Torch(momentum?);
                    } else if let Some(momentum) = number("keras-momentum=") {
                        config.momentum = Momentum::Keras(momentum?);
                    } else if let Some(policy) = word.strip_prefix("single=") {
                        config.single_value = policy.parse()?;
                    } else if let Some(policy) = word.strip_prefix("non-finite=") {
                        config.non_finite = policy.parse()?;
                    } else if let Ok(variance) = word.parse() {
                        config.running_variance = variance;
                    } else if let Ok(epilogue) = word.parse() {
                        config.epilogue = epilogue;
                    } else if let Some(found) = Pass::of_word(word) {
                        pass = Some(found);
                    } else {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })?;
        let mut pass = pass.unwrap_or(Pass::Train);
        for word in later {
            if !pass.refine(&word) {
                let expected =
                    "in-place with a pass that can be so; no-dx, skip and accumulate with backward";
                return Err(WordError::new("line", &word, expected));
            }
        }
        config.num_features = common.problem.shape.channels();
        Ok(Self {
            common,
            config,
            pass,
        })
    }
}
