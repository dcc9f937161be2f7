//! The passes of BatchNorm that a tuner chooses for.

use super::config::BatchNormConfig;
use super::line::{Line, Pass};
use super::options::{BackwardOptions, EvalOptions, TrainOptions};
use super::policy::Momentum;
use super::program;
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::norm::tuner::Tuner;
use crate::norm::tuning::Tuning;

/// A pass of a configuration over a problem, by all that its dispatches depend on. They are the same for every `eps` and
/// `momentum`.
fn pass(name: &str, config: &BatchNormConfig, problem: Problem) -> String {
    let BatchNormConfig {
        num_features: _,
        eps: _,
        momentum,
        weight,
        bias,
        track_running_stats,
        running_variance,
        single_value,
        non_finite,
        epilogue,
    } = config;
    let word = |present: &bool, word| if *present { word } else { "" };
    format!(
        "{}.{name} {epilogue}{}{}{}{} {running_variance} single={single_value} non-finite={non_finite} {problem}",
        program::NORM.name,
        word(weight, " weight"),
        word(bias, " bias"),
        word(track_running_stats, " tracks"),
        word(&(*momentum == Momentum::Cumulative), " cumulative"),
    )
}

impl Tuner {
    /// The choice for a [`TrainPlan`](super::TrainPlan).
    ///
    /// # Errors
    /// [`PlanError`](crate::PlanError) for a problem that has no plan, [`GpuError`](crate::GpuError) for a device that
    /// fails, and [`TuneError::File`](crate::TuneError::File) for the first choice that cannot be written to the file. It is
    /// remembered nevertheless: call again to go on.
    pub fn train(
        &mut self,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Tuning, Error> {
        let problem = problem.into();
        self.choose(&pass("train", config, problem), problem, |caps, tuning| {
            program::train(caps, problem, config, TrainOptions { tuning })
        })
    }

    /// The choice for an [`EvalPlan`](super::EvalPlan) with these options, whose own tuning it ignores.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn eval(
        &mut self,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        options: EvalOptions,
    ) -> Result<Tuning, Error> {
        let problem = problem.into();
        let name = format!("eval {}", options.y);
        self.choose(&pass(&name, config, problem), problem, |caps, tuning| {
            program::eval(caps, problem, config, EvalOptions { tuning, ..options })
        })
    }

    /// The choice for a [`BackwardPlan`](super::BackwardPlan) with these options, whose own tuning it ignores.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn backward(
        &mut self,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        options: BackwardOptions,
    ) -> Result<Tuning, Error> {
        let problem = problem.into();
        let name = format!(
            "backward{} dx {} parameters {}",
            if options.frozen { " frozen" } else { "" },
            options.dx.map_or("none", |dx| dx.name()),
            options.parameters
        );
        self.choose(&pass(&name, config, problem), problem, |caps, tuning| {
            program::backward(caps, problem, config, BackwardOptions { tuning, ..options })
        })
    }
}

impl Line {
    /// The choice of a tuner for the pass, on the tuner's device. What the line forces is ignored.
    ///
    /// # Errors
    /// As [`Tuner::train`], and [`PlanError::Unsupported`] for a piece of a pass, which leaves no choice of strategy.
    pub fn measured(&self, tuner: &mut Tuner) -> Result<Tuning, Error> {
        let (problem, config) = (self.common.problem, &self.config);
        match self.pass {
            Pass::Train => tuner.train(problem, config),
            Pass::Eval(y) => tuner.eval(problem, config, EvalOptions::default().y(y)),
            Pass::Backward {
                frozen,
                dx,
                parameters,
            } => {
                let options = BackwardOptions::default().frozen(frozen).dx(dx);
                tuner.backward(problem, config, options.parameters(parameters))
            }
            _ => Err(Error::Plan(PlanError::Unsupported {
                field: "pass",
                reason: "is a piece, which leaves a tuner no choice of strategy",
            })),
        }
    }
}
