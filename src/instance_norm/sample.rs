//! InstanceNorm as a norm whose statistics come from each sample alone: the layer, and what plans and problem lines ask of it.

use super::config::InstanceNormConfig;
use super::program;
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::gpu::program::Program;
use crate::gpu::{Caps, Gpu};
use crate::norm::sample::{
    self, BackwardOptions, ForwardOptions, Layer, Members, Params, SampleNorm, Sealed,
};
use crate::shape::Shape;

/// An InstanceNorm layer on a device: [`Layer`] has its methods.
pub type InstanceNorm = Layer<InstanceNormConfig>;

/// A problem line of InstanceNorm: [`SampleLine`](crate::SampleLine) has its methods.
pub type Line = sample::Line<InstanceNormConfig>;

/// In a problem line: with the moments of each instance.
const TRACKED: &str = "tracked";

impl InstanceNormConfig {
    /// Makes the layer: weight one (zero with `unit_offset`), bias zero.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that fits no shape; [`PlanError::Unsupported`] with
    /// [`track_running_stats`](Self::track_running_stats), which is for plans; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<InstanceNorm, Error> {
        if self.track_running_stats {
            return Err(Error::Plan(PlanError::Unsupported {
                field: "track_running_stats",
                reason: "an InstanceNorm keeps no running statistics; make a TrackedInstanceNorm of a BatchNorm",
            }));
        }
        Layer::new(gpu, self)
    }
}

impl SampleNorm for InstanceNormConfig {}

impl Sealed for InstanceNormConfig {
    const NAME: &'static str = "instance";
    const EXAMPLE: &'static str = "a line such as \"instance n2c64h56w56 nchw f16 relu backward\"";

    fn check(&self) -> Result<(), PlanError> {
        self.check()
    }

    fn forward(
        caps: &Caps,
        problem: Problem,
        config: &Self,
        options: ForwardOptions,
    ) -> Result<Program<Params>, PlanError> {
        program::forward(caps, problem, config, options)
    }

    fn backward(
        caps: &Caps,
        problem: Problem,
        config: &Self,
        options: BackwardOptions,
    ) -> Result<Program<Params>, PlanError> {
        program::backward(caps, problem, config, options)
    }

    fn sample_parameters(&self) -> usize {
        self.num_features
    }

    fn members(&self) -> Members {
        Members {
            eps: self.eps,
            weight: self.weight,
            bias: self.bias,
            per_sample: self.per_sample,
            unit_offset: self.unit_offset,
            epilogue: self.epilogue,
        }
    }

    fn with_members(self, members: Members) -> Self {
        Self {
            eps: members.eps,
            weight: members.weight,
            bias: members.bias,
            per_sample: members.per_sample,
            unit_offset: members.unit_offset,
            epilogue: members.epilogue,
            ..self
        }
    }

    fn of_shape(shape: Shape) -> Self {
        Self::new(shape.channels()).affine(true)
    }

    fn read(&mut self, word: &str) -> bool {
        let tracked = word == TRACKED;
        self.track_running_stats |= tracked;
        tracked
    }

    fn words(&self, _: Shape) -> Vec<String> {
        let word = self.track_running_stats.then(|| TRACKED.to_owned());
        word.into_iter().collect()
    }
}
