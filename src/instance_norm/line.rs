//! InstanceNorm's problem lines.

use std::fmt;
use std::str::FromStr;

use super::config::InstanceNormConfig;
use super::options::{BackwardOptions, ForwardOptions};
use super::program::{self, Params};
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::program::Program;
use crate::gpu::{Caps, Form, Launch};
use crate::norm::line::Common;
use crate::norm::options::{Destination, ParameterGradients};
use crate::word::WordError;

/// A pass of InstanceNorm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pass {
    /// `forward`
    Forward,
    /// `backward`, with `in-place` or `no-dx`, and with `skip` or `accumulate`
    Backward {
        /// Where dx goes.
        dx: Option<Destination>,
        /// What becomes of the parameters' gradients.
        parameters: ParameterGradients,
    },
}

/// A problem line: all that the dispatches of one pass depend on.
///
/// ```
/// use wgpu_norm::instance_norm::Line;
/// let line: Line = "instance n2c64h56w56 nhwc f16 relu backward in-place no-weight split 256x32".parse()?;
/// assert_eq!(line.to_string(), "instance n2c64h56w56 nhwc f16 relu backward in-place no-weight split 256x32");
/// # Ok::<(), wgpu_norm::WordError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Line {
    /// What the lines of all norms have.
    pub common: Common,
    /// The configuration. A line has weight and bias unless it says otherwise.
    pub config: InstanceNormConfig,
    /// The pass.
    pub pass: Pass,
}

impl Line {
    /// A line of a configuration and a pass.
    pub fn new(problem: impl Into<Problem>, config: &InstanceNormConfig, pass: Pass) -> Self {
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
        match self.pass {
            Pass::Forward => program::forward(caps, problem, config, ForwardOptions { tuning }),
            Pass::Backward { dx, parameters } => {
                let options = BackwardOptions {
                    dx,
                    parameters,
                    tuning,
                };
                program::backward(caps, problem, config, options)
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
        let mut own = match self.pass {
            Pass::Forward => "forward",
            Pass::Backward { .. } => "backward",
        }
        .to_owned();
        if let Pass::Backward { dx, parameters } = self.pass {
            own += match dx {
                None => " no-dx",
                Some(Destination::InPlace) => " in-place",
                Some(Destination::OutOfPlace) => "",
            };
            if parameters != ParameterGradients::Overwrite {
                own += &format!(" {parameters}");
            }
        }
        let InstanceNormConfig {
            eps, weight, bias, ..
        } = self.config;
        own += if weight { "" } else { " no-weight" };
        own += if bias { "" } else { " no-bias" };
        if eps != InstanceNormConfig::new(1).eps {
            own += &format!(" eps={eps}");
        }
        f.write_str("instance ")?;
        self.common.write(f, self.config.epilogue, &own)
    }
}

impl FromStr for Line {
    type Err = WordError;

    fn from_str(line: &str) -> Result<Self, WordError> {
        let wrong = |word: &str| {
            let expected = "a line such as \"instance n2c64h56w56 nchw f16 relu backward\"";
            WordError::new("line", word, expected)
        };
        let words = line.trim().strip_prefix("instance ");
        let words = words.ok_or_else(|| wrong(line))?;
        let mut config = InstanceNormConfig::new(1).affine(true);
        let (mut forward, mut dx) = (true, Some(Destination::OutOfPlace));
        let mut parameters = ParameterGradients::Overwrite;
        // The last word that only backward has a use for.
        let mut refined = None;
        let common = Common::parse(words, |word| {
            if matches!(word, "in-place" | "no-dx" | "skip" | "accumulate") {
                refined = Some(word.to_owned());
            }
            match word {
                "forward" => forward = true,
                "backward" => forward = false,
                "in-place" => dx = Some(Destination::InPlace),
                "no-dx" => dx = None,
                "skip" => parameters = ParameterGradients::Skip,
                "accumulate" => parameters = ParameterGradients::Accumulate,
                "no-weight" => config.weight = false,
                "no-bias" => config.bias = false,
                _ => match (word.strip_prefix("eps="), word.parse()) {
                    (Some(eps), _) => config.eps = eps.parse().map_err(|_| wrong(word))?,
                    (None, Ok(epilogue)) => config.epilogue = epilogue,
                    (None, Err(_)) => return Ok(false),
                },
            }
            Ok(true)
        })?;
        if let Some(word) = refined.filter(|_| forward) {
            return Err(wrong(&word));
        }
        config.num_features = common.problem.shape.channels();
        let pass = match forward {
            true => Pass::Forward,
            false => Pass::Backward { dx, parameters },
        };
        Ok(Self {
            common,
            config,
            pass,
        })
    }
}
