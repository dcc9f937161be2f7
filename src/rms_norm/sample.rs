//! RMSNorm as a norm whose statistics come from each sample alone: the layer, and what plans and problem lines ask of it.

use super::config::RmsNormConfig;
use super::program;
use crate::dtype::Problem;
use crate::error::{Error, PlanError};
use crate::gpu::program::Program;
use crate::gpu::{Caps, Gpu};
use crate::norm::options::Epilogue;
use crate::norm::rows::AffineRows;
use crate::norm::sample::{
    self, BackwardOptions, ForwardOptions, Layer, Params, SampleNorm, Sealed,
};
use crate::shape::{Layout, Shape};

/// An RMSNorm layer on a device.
pub type RmsNorm = Layer<RmsNormConfig>;

/// A problem line of RMSNorm.
pub type Line = sample::Line<RmsNormConfig>;

impl RmsNormConfig {
    /// Makes the layer: weight one, or zero if 1 is added to it.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<RmsNorm, Error> {
        Layer::new(gpu, self)
    }
}

impl SampleNorm for RmsNormConfig {
    fn affine_rows(&self) -> AffineRows {
        self.affine_rows()
    }

    fn initial_weight(&self) -> f32 {
        match self.unit_offset {
            true => 0.0,
            false => 1.0,
        }
    }
}

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

    fn epilogue(&self) -> Epilogue {
        self.epilogue
    }

    fn with_epilogue(self, epilogue: Epilogue) -> Self {
        self.epilogue(epilogue)
    }

    fn of_shape(shape: Shape) -> Self {
        // Channels, where they are innermost; else a whole sample.
        let spatial = match shape.layout() {
            Layout::ChannelsFirst => shape.plane().unwrap_or(usize::MAX),
            Layout::ChannelsLast => 1,
        };
        Self::new(shape.channels().saturating_mul(spatial))
    }

    fn read(&mut self, word: &str) -> bool {
        let number = |name| word.strip_prefix(name);
        match word {
            "no-weight" => self.weight = false,
            "unit-offset" => self.unit_offset = true,
            _ => match (
                number("eps=").map(str::parse),
                number("size=").map(str::parse),
            ) {
                (Some(Ok(eps)), _) => self.eps = eps,
                (_, Some(Ok(size))) => self.normalized_size = size,
                _ => return false,
            },
        }
        true
    }

    fn words(&self, shape: Shape) -> Vec<String> {
        let usual = Self::of_shape(shape);
        let mut words = Vec::new();
        let size = self.normalized_size;
        words.extend((size != usual.normalized_size).then(|| format!("size={size}")));
        words.extend((!self.weight).then(|| "no-weight".to_owned()));
        words.extend(self.unit_offset.then(|| "unit-offset".to_owned()));
        words.extend((self.eps != usual.eps).then(|| format!("eps={}", self.eps)));
        words
    }
}
