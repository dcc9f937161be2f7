//! InstanceNorm as a norm whose statistics come from each sample alone: the layer, and what plans and problem lines ask of it.

use super::config::InstanceNormConfig;
use super::program;
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::gpu::program::Program;
use crate::gpu::{Caps, Gpu};
use crate::norm::rows::AffineRows;
use crate::norm::sample::{
    self, BackwardOptions, ForwardOptions, Layer, Members, Params, SampleNorm, Sealed,
};
use crate::shape::Shape;

/// An InstanceNorm layer on a device: [`Layer`] has its methods.
pub type InstanceNorm = Layer<InstanceNormConfig>;

/// A problem line of InstanceNorm: [`SampleLine`](crate::SampleLine) has its methods.
pub type Line = sample::Line<InstanceNormConfig>;

impl InstanceNormConfig {
    /// Makes the layer: weight one, bias zero.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<InstanceNorm, Error> {
        Layer::new(gpu, self)
    }
}

// The configuration's own methods come before those of the traits that have their names.

impl SampleNorm for InstanceNormConfig {
    fn affine_rows(&self) -> AffineRows {
        self.affine_rows()
    }
}

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

    fn members(&self) -> Members {
        Members {
            eps: self.eps,
            weight: self.weight,
            bias: self.bias,
            epilogue: self.epilogue,
        }
    }

    fn with_members(self, members: Members) -> Self {
        Self {
            eps: members.eps,
            weight: members.weight,
            bias: members.bias,
            epilogue: members.epilogue,
            ..self
        }
    }

    fn of_shape(shape: Shape) -> Self {
        Self::new(shape.channels()).affine(true)
    }
}
