//! RMSNorm as a norm whose statistics come from each sample alone: the layer, and what plans and problem lines ask of it.

use super::config::{RmsNormConfig, Rounding};
use super::program;
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::gpu::program::Program;
use crate::gpu::{Caps, Gpu};
use crate::norm::sample::{
    self, BackwardOptions, ForwardOptions, Layer, Members, Params, SampleNorm, Sealed,
};
use crate::norm::trailing::row_of;
use crate::shape::Shape;

/// An RMSNorm layer on a device: [`Layer`] has its methods.
pub type RmsNorm = Layer<RmsNormConfig>;

/// A problem line of RMSNorm: [`SampleLine`](crate::SampleLine) has its methods.
pub type Line = sample::Line<RmsNormConfig>;

impl RmsNormConfig {
    /// Makes the layer: weight one (zero with `unit_offset`), bias zero.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<RmsNorm, Error> {
        Layer::new(gpu, self)
    }
}

impl SampleNorm for RmsNormConfig {}

impl Sealed for RmsNormConfig {
    const NAME: &'static str = "rms";
    const EXAMPLE: &'static str = "a line such as \"rms n4096c1024 f16 backward\"";

    fn check(&self) -> Result<(), PlanError> {
        self.check()
    }

    fn forward(
        caps: &Caps,
        problem: Problem,
        config: &Self,
        options: ForwardOptions,
    ) -> Result<Program<Params>, PlanError> {
        program::trailing(config)?.forward(caps, problem, options)
    }

    fn backward(
        caps: &Caps,
        problem: Problem,
        config: &Self,
        options: BackwardOptions,
    ) -> Result<Program<Params>, PlanError> {
        program::trailing(config)?.backward(caps, problem, options)
    }

    fn sample_parameters(&self) -> usize {
        self.normalized_size
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
        Self::new(row_of(shape))
    }

    fn read(&mut self, word: &str) -> bool {
        match word.split_once('=') {
            Some(("size", size)) => {
                let size = size.parse().map(|size| self.normalized_size = size);
                size.is_ok()
            }
            Some(("rounding", rounding)) => {
                let rounding = rounding.parse().map(|rounding| self.rounding = rounding);
                rounding.is_ok()
            }
            _ => false,
        }
    }

    fn words(&self, shape: Shape) -> Vec<String> {
        let size = self.normalized_size;
        let told = size != row_of(shape);
        let size = told.then(|| format!("size={size}"));
        let rounds = self.rounding != Rounding::default();
        let rounding = rounds.then(|| format!("rounding={}", self.rounding));
        size.into_iter().chain(rounding).collect()
    }
}
