//! GroupNorm as a norm whose statistics come from each sample alone: the layer, and what plans and problem lines ask of it.

use super::config::GroupNormConfig;
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
use crate::shape::Shape;

/// A GroupNorm layer on a device.
pub type GroupNorm = Layer<GroupNormConfig>;

/// A problem line of GroupNorm.
pub type Line = sample::Line<GroupNormConfig>;

impl GroupNormConfig {
    /// Makes the layer: weight one, bias zero.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<GroupNorm, Error> {
        Layer::new(gpu, self)
    }
}

impl SampleNorm for GroupNormConfig {
    fn affine_rows(&self) -> AffineRows {
        self.affine_rows()
    }
}

/// torch has no default. Half of the image networks that use the norm have 32 groups.
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

    fn epilogue(&self) -> Epilogue {
        self.epilogue
    }

    fn with_epilogue(self, epilogue: Epilogue) -> Self {
        self.epilogue(epilogue)
    }

    fn of_shape(shape: Shape) -> Self {
        Self::new(default_groups(shape.channels()), shape.channels())
    }

    fn read(&mut self, word: &str) -> bool {
        let number = |name| word.strip_prefix(name);
        match word {
            "no-weight" => self.weight = false,
            "no-bias" => self.bias = false,
            _ => match (
                number("eps=").map(str::parse),
                number("groups=").map(str::parse),
            ) {
                (Some(Ok(eps)), _) => self.eps = eps,
                (_, Some(Ok(groups))) => self.num_groups = groups,
                _ => return false,
            },
        }
        true
    }

    fn words(&self, shape: Shape) -> Vec<String> {
        let usual = Self::of_shape(shape);
        let mut words = Vec::new();
        let groups = self.num_groups;
        words.extend((groups != usual.num_groups).then(|| format!("groups={groups}")));
        words.extend((!self.weight).then(|| "no-weight".to_owned()));
        words.extend((!self.bias).then(|| "no-bias".to_owned()));
        words.extend((self.eps != usual.eps).then(|| format!("eps={}", self.eps)));
        words
    }
}
