//! Problem lines of every norm of this room.

use std::fmt;
use std::str::FromStr;

use super::config::{Params, SampleNorm};
use super::options::{BackwardOptions, ForwardOptions};
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::program::Program;
use crate::gpu::{Caps, Form, Launch};
use crate::norm::line::Common;
use crate::norm::options::{Destination, ParameterGradients};
use crate::word::WordError;

/// A pass of a norm whose statistics come from each sample alone.
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
pub struct Line<C> {
    /// What the lines of all norms have.
    pub common: Common,
    /// The configuration. It has weight and bias, in RMSNorm the weight alone, unless the line says `no-weight`, `no-bias` or
    /// `bias`.
    pub config: C,
    /// The pass.
    pub pass: Pass,
    /// Whether a residual is added to the input first, and backward adds the gradient that their sum has by another way:
    /// `prenorm`.
    pub prenorm: bool,
}

impl<C: SampleNorm> Line<C> {
    /// A line of a configuration and a pass.
    pub fn new(problem: impl Into<Problem>, config: &C, pass: Pass) -> Self {
        Self {
            common: Common::new(problem),
            config: *config,
            pass,
            prenorm: false,
        }
    }

    /// The dispatches for a device with these properties.
    pub(crate) fn program(&self, caps: &Caps) -> Result<Program<Params>, PlanError> {
        let caps = &self.common.caps(caps);
        let (problem, config, tuning) = (self.common.problem, &self.config, self.common.tuning);
        let prenorm = self.prenorm;
        match self.pass {
            Pass::Forward => C::forward(caps, problem, config, ForwardOptions { tuning, prenorm }),
            Pass::Backward { dx, parameters } => {
                let options = BackwardOptions {
                    dx,
                    parameters,
                    tuning,
                    prenorm,
                };
                C::backward(caps, problem, config, options)
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

impl<C: SampleNorm> fmt::Display for Line<C> {
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
        if self.prenorm {
            own += " prenorm";
        }
        let shape = self.common.problem.shape;
        for word in self.config.words(shape) {
            own += &format!(" {word}");
        }
        let (members, usual) = (self.config.members(), C::of_shape(shape).members());
        let told = [
            (!members.weight, " no-weight"),
            (usual.bias && !members.bias, " no-bias"),
            (!usual.bias && members.bias, " bias"),
            (members.per_sample, " per-sample"),
            (members.unit_offset, " unit-offset"),
        ];
        own.extend(
            told.into_iter()
                .filter_map(|(told, word)| told.then_some(word)),
        );
        if members.eps != usual.eps {
            own += &format!(" eps={}", members.eps);
        }
        write!(f, "{} ", C::NAME)?;
        self.common.write(f, self.config.epilogue(), &own)
    }
}

impl<C: SampleNorm> FromStr for Line<C> {
    type Err = WordError;

    fn from_str(line: &str) -> Result<Self, WordError> {
        let wrong = |word: &str| WordError::new("line", word, C::EXAMPLE);
        let words = line.trim().strip_prefix(C::NAME);
        let words = words.and_then(|words| words.strip_prefix(' '));
        let mut own = Vec::new();
        let common = Common::parse(words.ok_or_else(|| wrong(line))?, |word| {
            own.push(word.to_owned());
            Ok(true)
        })?;
        let mut config = C::of_shape(common.problem.shape);
        let usual = config.members();
        let mut members = usual;
        let (mut forward, mut dx) = (true, Some(Destination::OutOfPlace));
        let (mut parameters, mut prenorm) = (ParameterGradients::Overwrite, false);
        // The last word that only backward has a use for.
        let mut refined = None;
        for word in own.iter().map(String::as_str) {
            if matches!(word, "in-place" | "no-dx" | "skip" | "accumulate") {
                refined = Some(word);
            }
            match word {
                "forward" => forward = true,
                "backward" => forward = false,
                "in-place" => dx = Some(Destination::InPlace),
                "no-dx" => dx = None,
                "skip" => parameters = ParameterGradients::Skip,
                "accumulate" => parameters = ParameterGradients::Accumulate,
                "prenorm" => prenorm = true,
                "no-weight" => members.weight = false,
                "per-sample" => members.per_sample = true,
                "unit-offset" => members.unit_offset = true,
                "no-bias" if usual.bias => members.bias = false,
                "bias" if !usual.bias => members.bias = true,
                _ => match (word.strip_prefix("eps="), word.parse()) {
                    (Some(eps), _) => members.eps = eps.parse().map_err(|_| wrong(word))?,
                    (None, Ok(epilogue)) => members.epilogue = epilogue,
                    (None, Err(_)) if config.read(word) => {}
                    (None, Err(_)) => return Err(wrong(word)),
                },
            }
        }
        if let Some(word) = refined.filter(|_| forward) {
            return Err(wrong(word));
        }
        let pass = match forward {
            true => Pass::Forward,
            false => Pass::Backward { dx, parameters },
        };
        Ok(Self {
            common,
            config: config.with_members(members),
            pass,
            prenorm,
        })
    }
}
