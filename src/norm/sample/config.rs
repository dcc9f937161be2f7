//! What a norm brings to this room: its configuration.

use std::fmt::Debug;
use std::ops::Range;

use super::options::{BackwardOptions, ForwardOptions};
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::Program;
use crate::norm::options::Epilogue;
use crate::norm::rows::AffineRows;
use crate::norm::uniform::{self, EpsSettings};
use crate::shape::Shape;

/// The uniform of its kernels.
pub type Params = uniform::Params<EpsSettings>;

/// The configuration of a norm whose statistics come from each sample alone. Sealed.
pub trait SampleNorm: Sealed + Copy + Debug + PartialEq + Send + Sync + 'static {
    /// The rows of a layer's parameters, and of their gradients; none if each sample has its own.
    fn affine_rows(&self) -> AffineRows {
        let Members {
            weight,
            bias,
            per_sample,
            ..
        } = self.members();
        AffineRows::new(
            self.sample_parameters(),
            weight && !per_sample,
            bias && !per_sample,
        )
    }

    /// The rows of a plan's buffers `affine` and `grads` for a batch of this many samples. If each sample has parameters of its
    /// own, a row has those of the first sample, then those of the second, and so on. Else it is
    /// [`affine_rows`](Self::affine_rows), whatever the batch.
    fn affine_rows_of(&self, samples: usize) -> AffineRows {
        let members = self.members();
        match members.per_sample {
            true => {
                let count = self.sample_parameters().saturating_mul(samples);
                AffineRows::new(count, members.weight, members.bias)
            }
            false => self.affine_rows(),
        }
    }

    /// A new layer's weight: 1, or 0 if the norm adds 1 to it.
    fn initial_weight(&self) -> f32 {
        match self.members().unit_offset {
            true => 0.0,
            false => 1.0,
        }
    }

    /// A new layer's buffer `affine`: weights of [`initial_weight`](Self::initial_weight), biases 0, of those that the
    /// configuration has.
    ///
    /// # Panics
    /// If the host has no memory for that many.
    fn initial_affine(&self) -> Vec<f32> {
        let AffineRows { weight, bias } = self.affine_rows();
        let row = |row: Option<Range<u64>>, value| {
            let values = row.map_or(0, |row| (row.end - row.start) / 4);
            std::iter::repeat_n(value, values as usize)
        };
        let weight = row(weight, self.initial_weight());
        weight.chain(row(bias, 0.0)).collect()
    }
}

/// The members that the configurations of all such norms have.
#[derive(Clone, Copy, Debug)]
pub struct Members {
    pub eps: f32,
    pub weight: bool,
    pub bias: bool,
    pub per_sample: bool,
    pub unit_offset: bool,
    pub epilogue: Epilogue,
}

/// What [`SampleNorm`] keeps to the crate.
pub trait Sealed: Sized {
    /// The word that its problem lines begin with.
    const NAME: &'static str;

    /// What to write for a line that cannot be read: an example.
    const EXAMPLE: &'static str;

    /// Checks what does not depend on a shape.
    fn check(&self) -> Result<(), PlanError>;

    /// The dispatches of [`ForwardPlan`](super::ForwardPlan).
    fn forward(
        caps: &Caps,
        problem: Problem,
        config: &Self,
        options: ForwardOptions,
    ) -> Result<Program<Params>, PlanError>;

    /// The dispatches of [`BackwardPlan`](super::BackwardPlan).
    fn backward(
        caps: &Caps,
        problem: Problem,
        config: &Self,
        options: BackwardOptions,
    ) -> Result<Program<Params>, PlanError>;

    /// The number of weights, which is that of biases, that a sample has.
    fn sample_parameters(&self) -> usize;

    /// The members that all configurations have.
    fn members(&self) -> Members;

    /// The configuration with others of them.
    fn with_members(self, members: Members) -> Self;

    /// What follows the normalization in the same pass.
    fn epilogue(&self) -> Epilogue {
        self.members().epilogue
    }

    /// The configuration of a problem line that says nothing of it: for the line's shape, with the norm's usual parameters.
    fn of_shape(shape: Shape) -> Self;

    /// Takes a word of a problem line that is the norm's own; `false` if it has no such word.
    fn read(&mut self, _word: &str) -> bool {
        false
    }

    /// The words that [`read`](Self::read) takes, of all that differs from [`of_shape`](Self::of_shape).
    fn words(&self, _shape: Shape) -> Vec<String> {
        Vec::new()
    }
}
