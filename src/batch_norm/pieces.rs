//! The pieces that BatchNorm is made of, as plans of their own: for statistics over several devices, over parts of
//! a batch, or from a kernel of the caller's.
//!
//! [`TrainPlan`](super::TrainPlan) is [`StatsPlan`], [`FinalizePlan`] and [`ApplyPlan`] in one step, and
//! [`BackwardPlan`](super::BackwardPlan) is [`BackwardReducePlan`] and [`BackwardApplyPlan`]. Between the pieces of
//! several devices stand an exchange of moments and [`CombinePlan`], and in backward a sum of sums.

use wgpu::BufferSlice;

use super::config::BatchNormConfig;
use super::options::Destination;
use super::plan_pieces;
use super::plans::{Compiled, DispatchInfo, sizes};
use super::tuning::Tuning;
use crate::dtype::Problem;
use crate::error::{BindError, PlanError};
use crate::gpu::program::Field;
use crate::gpu::{Kernels, Step};

/// The moments of `x`: first piece of the forward pass.
#[derive(Debug)]
pub struct StatsPlan(Compiled);

/// The caller's memory for a [`StatsPlan`].
#[derive(Clone, Copy, Debug)]
pub struct StatsBuffers<'a> {
    /// See [`TrainBuffers::x`](super::TrainBuffers::x).
    pub x: BufferSlice<'a>,
    /// f32 rows `[mean: C] [residual: C] [m2: C] [count: C]`. The mean is the sum of the first two, m2 the sum of
    /// squared deviations from it. Written.
    pub moments: BufferSlice<'a>,
    /// See [`TrainBuffers::scratch`](super::TrainBuffers::scratch).
    pub scratch: Option<BufferSlice<'a>>,
}

impl StatsPlan {
    /// Plans and compiles for one problem; a single value a channel, or none, will do.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Self, PlanError> {
        let problem = problem.into();
        let program = plan_pieces::stats(kernels.caps(), problem, config, Tuning::default())?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `x`.
        activation_bytes: X;
        /// Bytes of `moments`.
        moments_bytes: Moments;
        /// Bytes of `scratch`; 0 if it may be `None`.
        scratch_bytes: Scratch;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &StatsBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm stats",
            &[
                (Field::X, Some(buffers.x)),
                (Field::Moments, Some(buffers.moments)),
                (Field::Scratch, buffers.scratch),
            ],
        )
    }
}

/// The moments of several parts of a batch become those of the whole.
#[derive(Debug)]
pub struct CombinePlan(Compiled);

/// The caller's memory for a [`CombinePlan`].
#[derive(Clone, Copy, Debug)]
pub struct CombineBuffers<'a> {
    /// [`StatsBuffers::moments`] of each part, one after another.
    pub sets: BufferSlice<'a>,
    /// Those of the whole. Written.
    pub moments: BufferSlice<'a>,
}

impl CombinePlan {
    /// Plans and compiles for so many parts.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(kernels: &Kernels, config: &BatchNormConfig, sets: u32) -> Result<Self, PlanError> {
        let program = plan_pieces::combine(kernels.caps(), config, sets)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `sets`.
        sets_bytes: Sets;
        /// Bytes of `moments`.
        moments_bytes: Moments;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &CombineBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm combine",
            &[
                (Field::Sets, Some(buffers.sets)),
                (Field::Moments, Some(buffers.moments)),
            ],
        )
    }
}

/// Moments become statistics, and move the running ones: second piece of the forward pass.
#[derive(Debug)]
pub struct FinalizePlan(Compiled);

/// The caller's memory for a [`FinalizePlan`].
#[derive(Clone, Copy, Debug)]
pub struct FinalizeBuffers<'a> {
    /// See [`StatsBuffers::moments`]. A channel whose count is zero is passed over.
    pub moments: BufferSlice<'a>,
    /// See [`TrainBuffers::running`](super::TrainBuffers::running).
    pub running: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::saved`](super::TrainBuffers::saved). Written.
    pub saved: BufferSlice<'a>,
}

impl FinalizePlan {
    /// Plans and compiles.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(kernels: &Kernels, config: &BatchNormConfig) -> Result<Self, PlanError> {
        let program = plan_pieces::finalize(kernels.caps(), config)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `moments`.
        moments_bytes: Moments;
        /// Bytes of `running`; 0 if it is to be `None`.
        running_bytes: Running;
        /// Bytes of `saved`.
        saved_bytes: Saved;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &FinalizeBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm finalize",
            &[
                (Field::Moments, Some(buffers.moments)),
                (Field::Running, buffers.running),
                (Field::Saved, Some(buffers.saved)),
            ],
        )
    }
}

/// `y` by statistics that are saved: last piece of the forward pass.
#[derive(Debug)]
pub struct ApplyPlan(Compiled);

/// The caller's memory for an [`ApplyPlan`].
#[derive(Clone, Copy, Debug)]
pub struct ApplyBuffers<'a> {
    /// See [`TrainBuffers::x`](super::TrainBuffers::x).
    pub x: BufferSlice<'a>,
    /// See [`EvalBuffers::y`](super::EvalBuffers::y).
    pub y: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::residual`](super::TrainBuffers::residual).
    pub residual: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::affine`](super::TrainBuffers::affine).
    pub affine: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::saved`](super::TrainBuffers::saved); read.
    pub saved: BufferSlice<'a>,
}

impl ApplyPlan {
    /// Plans and compiles for one problem.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        y: Destination,
    ) -> Result<Self, PlanError> {
        let program = plan_pieces::apply(kernels.caps(), problem.into(), config, y)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `x` and of `y`.
        activation_bytes: X;
        /// Bytes of `affine`; 0 if it is to be `None`.
        affine_bytes: Affine;
        /// Bytes of `saved`.
        saved_bytes: Saved;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &ApplyBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm apply",
            &[
                (Field::X, Some(buffers.x)),
                (Field::Y, buffers.y),
                (Field::Residual, buffers.residual),
                (Field::Affine, buffers.affine),
                (Field::Saved, Some(buffers.saved)),
            ],
        )
    }
}

/// The sums that the gradients need: first piece of the backward pass.
#[derive(Debug)]
pub struct BackwardReducePlan(Compiled);

/// The caller's memory for a [`BackwardReducePlan`].
#[derive(Clone, Copy, Debug)]
pub struct BackwardReduceBuffers<'a> {
    /// See [`BackwardBuffers::x`](super::BackwardBuffers::x).
    pub x: BufferSlice<'a>,
    /// See [`BackwardBuffers::dy`](super::BackwardBuffers::dy).
    pub dy: BufferSlice<'a>,
    /// See [`BackwardBuffers::statistics`](super::BackwardBuffers::statistics); saved ones.
    pub statistics: BufferSlice<'a>,
    /// See [`TrainBuffers::affine`](super::TrainBuffers::affine).
    pub affine: Option<BufferSlice<'a>>,
    /// See [`BackwardBuffers::output`](super::BackwardBuffers::output).
    pub output: Option<BufferSlice<'a>>,
    /// See [`BackwardBuffers::dresidual`](super::BackwardBuffers::dresidual). Written.
    pub dresidual: Option<BufferSlice<'a>>,
    /// f32 rows `[sum_g: C] [sum_x_hat_g: C] [count: C]` of the gradient `g` that comes in through the epilogue:
    /// dbias, dweight and the number of values. Those of several devices add up. Written.
    pub sums: BufferSlice<'a>,
    /// See [`TrainBuffers::scratch`](super::TrainBuffers::scratch).
    pub scratch: Option<BufferSlice<'a>>,
}

impl BackwardReducePlan {
    /// Plans and compiles for one problem.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Self, PlanError> {
        let problem = problem.into();
        let tuning = Tuning::default();
        let program = plan_pieces::backward_reduce(kernels.caps(), problem, config, tuning)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `x`, `dy`, `output` and `dresidual`.
        activation_bytes: X;
        /// Bytes of `statistics`.
        statistics_bytes: Statistics;
        /// Bytes of `affine`; 0 if it is to be `None`.
        affine_bytes: Affine;
        /// Bytes of `sums`.
        sums_bytes: Sums;
        /// Bytes of `scratch`; 0 if it may be `None`.
        scratch_bytes: Scratch;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &BackwardReduceBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm backward_reduce",
            &[
                (Field::X, Some(buffers.x)),
                (Field::Dy, Some(buffers.dy)),
                (Field::Statistics, Some(buffers.statistics)),
                (Field::Affine, buffers.affine),
                (Field::Output, buffers.output),
                (Field::Dresidual, buffers.dresidual),
                (Field::Sums, Some(buffers.sums)),
                (Field::Scratch, buffers.scratch),
            ],
        )
    }
}

/// `dx` by sums that are known: last piece of the backward pass.
#[derive(Debug)]
pub struct BackwardApplyPlan(Compiled);

/// The caller's memory for a [`BackwardApplyPlan`].
#[derive(Clone, Copy, Debug)]
pub struct BackwardApplyBuffers<'a> {
    /// See [`BackwardBuffers::x`](super::BackwardBuffers::x).
    pub x: BufferSlice<'a>,
    /// See [`BackwardBuffers::dy`](super::BackwardBuffers::dy).
    pub dy: BufferSlice<'a>,
    /// See [`BackwardBuffers::dx`](super::BackwardBuffers::dx).
    pub dx: Option<BufferSlice<'a>>,
    /// See [`BackwardBuffers::statistics`](super::BackwardBuffers::statistics); saved ones.
    pub statistics: BufferSlice<'a>,
    /// See [`TrainBuffers::affine`](super::TrainBuffers::affine).
    pub affine: Option<BufferSlice<'a>>,
    /// What [`BackwardReduceBuffers::dresidual`] has received, if the epilogue adds; read in place of `dy`.
    pub dresidual: Option<BufferSlice<'a>>,
    /// See [`BackwardReduceBuffers::sums`], of the whole batch.
    pub sums: BufferSlice<'a>,
}

impl BackwardApplyPlan {
    /// Plans and compiles for one problem.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        dx: Destination,
    ) -> Result<Self, PlanError> {
        let program = plan_pieces::backward_apply(kernels.caps(), problem.into(), config, dx)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `x`, `dy` and `dx`.
        activation_bytes: X;
        /// Bytes of `statistics`.
        statistics_bytes: Statistics;
        /// Bytes of `affine`; 0 if it is to be `None`.
        affine_bytes: Affine;
        /// Bytes of `sums`.
        sums_bytes: Sums;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &BackwardApplyBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm backward_apply",
            &[
                (Field::X, Some(buffers.x)),
                (Field::Dy, Some(buffers.dy)),
                (Field::Dx, buffers.dx),
                (Field::Statistics, Some(buffers.statistics)),
                (Field::Affine, buffers.affine),
                (Field::Dresidual, buffers.dresidual),
                (Field::Sums, Some(buffers.sums)),
            ],
        )
    }
}
