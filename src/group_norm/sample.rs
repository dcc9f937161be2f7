//! GroupNorm as a norm whose statistics come from each sample alone: the layer, and what plans and problem lines ask of it.

use super::config::GroupNormConfig;
use super::program;
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::gpu::program::Program;
use crate::gpu::{Caps, Gpu};
use crate::norm::sample::{
    self, BackwardOptions, ForwardOptions, Layer, Members, Params, SampleNorm, Sealed,
};
use crate::shape::Shape;

/// A GroupNorm layer on a device: [`Layer`] has its methods.
pub type GroupNorm = Layer<GroupNormConfig>;

/// A problem line of GroupNorm: [`SampleLine`](crate::SampleLine) has its methods.
pub type Line = sample::Line<GroupNormConfig>;

impl GroupNormConfig {
    /// Makes the layer: weight one (zero with `unit_offset`), bias zero.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<GroupNorm, Error> {
        Layer::new(gpu, self)
    }
}

impl SampleNorm for GroupNormConfig {}

/// The groups of a problem line that names none, because torch has no default: 32 where that divides the channels, and else 1.
fn default_groups(channels: usize) -> usize {
    match channels.is_multiple_of(32) {
        true => 32,
        false => 1,
    }
}

impl Sealed for GroupNormConfig {
    const NAME: &'static str = "group";
    const EXAMPLE: &'static str =
        "a line such as \"group n2c64h56w56 nchw f16 groups=32 silu backward\"";

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
        self.num_channels
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
        Self::new(default_groups(shape.channels()), shape.channels())
    }

    fn read(&mut self, word: &str) -> bool {
        let groups = word.strip_prefix("groups=").map(str::parse);
        match groups {
            Some(Ok(groups)) => self.num_groups = groups,
            _ => return false,
        }
        true
    }

    fn words(&self, shape: Shape) -> Vec<String> {
        let groups = self.num_groups;
        let told = groups != Self::of_shape(shape).num_groups;
        told.then(|| format!("groups={groups}"))
            .into_iter()
            .collect()
    }
}
