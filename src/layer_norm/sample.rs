//! LayerNorm as a norm whose statistics come from each sample alone: the layer, and what plans and problem lines ask of it.

use super::config::LayerNormConfig;
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

/// A LayerNorm layer on a device.
pub type LayerNorm = Layer<LayerNormConfig>;

/// A problem line of LayerNorm.
pub type Line = sample::Line<LayerNormConfig>;

impl LayerNormConfig {
    /// Makes the layer: weight one, bias zero.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<LayerNorm, Error> {
        Layer::new(gpu, self)
    }
}

impl SampleNorm for LayerNormConfig {
    fn affine_rows(&self) -> AffineRows {
        self.affine_rows()
    }
}

impl Sealed for LayerNormConfig {
    const NAME: &'static str = "layer";
    const EXAMPLE: &'static str = "a line such as \"layer n4096c1024 f16 backward\"";

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
            "no-bias" => self.bias = false,
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
        words.extend((!self.bias).then(|| "no-bias".to_owned()));
        words.extend((self.eps != usual.eps).then(|| format!("eps={}", self.eps)));
        words
    }
}
