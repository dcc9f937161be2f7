//! The passes of these norms that a tuner chooses for.

use super::config::{Members, SampleNorm};
use super::line::{Line, Pass};
use super::options::{BackwardOptions, ForwardOptions};
use crate::dtype::Problem;
use crate::error::Error;
use crate::norm::line::Common;
use crate::norm::tuner::Tuner;
use crate::norm::tuning::Tuning;

impl Tuner {
    /// The choice for a [`ForwardPlan`](super::ForwardPlan) of GroupNorm, InstanceNorm, LayerNorm or RMSNorm with these
    /// options, whose own tuning it ignores.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn sample_forward<C: SampleNorm>(
        &mut self,
        problem: impl Into<Problem>,
        config: &C,
        options: ForwardOptions,
    ) -> Result<Tuning, Error> {
        let ForwardOptions { tuning: _, prenorm } = options;
        let line = Line::new(problem, config, Pass::Forward);
        Line { prenorm, ..line }.measured(self)
    }

    /// The choice for a [`BackwardPlan`](super::BackwardPlan) of GroupNorm, InstanceNorm, LayerNorm or RMSNorm with these
    /// options, whose own tuning it ignores.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn sample_backward<C: SampleNorm>(
        &mut self,
        problem: impl Into<Problem>,
        config: &C,
        options: BackwardOptions,
    ) -> Result<Tuning, Error> {
        let BackwardOptions {
            dx,
            parameters,
            tuning: _,
            prenorm,
        } = options;
        let line = Line::new(problem, config, Pass::Backward { dx, parameters });
        Line { prenorm, ..line }.measured(self)
    }
}

impl<C: SampleNorm> Line<C> {
    /// The choice of a tuner for the pass, on the tuner's device. What the line forces is ignored.
    ///
    /// # Errors
    /// As [`Tuner::train`].
    pub fn measured(&self, tuner: &mut Tuner) -> Result<Tuning, Error> {
        let common = Common::new(self.common.problem);
        let bare = Self { common, ..*self };
        let program = |caps: &_, tuning| {
            let common = common.tuning(tuning);
            Self { common, ..bare }.program(caps)
        };
        tuner.choose(&bare.for_every_eps().to_string(), common.problem, program)
    }

    /// The line of all configurations that have the dispatches of this one: with the usual `eps`.
    fn for_every_eps(self) -> Self {
        let eps = C::of_shape(self.common.problem.shape).members().eps;
        let members = Members {
            eps,
            ..self.config.members()
        };
        let config = self.config.with_members(members);
        Self { config, ..self }
    }
}
