//! Plans on a device: compiled once, bound to the caller's buffers, recorded into the caller's encoder.

use wgpu::BufferSlice;

use super::config::BatchNormConfig;
use super::options::{BackwardOptions, EvalOptions};
use super::params::Params;
use super::plan;
use super::tuning::Tuning;
use crate::dtype::Problem;
use crate::error::{BindError, PlanError};
use crate::gpu::compose::compose;
use crate::gpu::program::{Field, Program};
use crate::gpu::step::{self, Slices};
use crate::gpu::{Kernels, Step};

/// A program with its pipelines.
#[derive(Debug)]
pub struct Compiled {
    kernels: Kernels,
    program: Program<Params>,
    pipelines: Vec<wgpu::ComputePipeline>,
}

impl Compiled {
    pub fn new(kernels: &Kernels, program: Program<Params>) -> Result<Self, PlanError> {
        Ok(Self {
            kernels: kernels.clone(),
            pipelines: kernels.pipelines(&program)?,
            program,
        })
    }

    pub fn bind(&self, label: &'static str, slices: &Slices<'_>) -> Result<Step, BindError> {
        step::bind(label, &self.kernels, &self.pipelines, &self.program, slices)
    }

    pub fn bytes(&self, field: Field) -> u64 {
        self.program.bytes(field)
    }

    pub fn dispatches(&self) -> impl Iterator<Item = DispatchInfo<'_>> {
        self.program.dispatches.iter().map(|dispatch| DispatchInfo {
            plan: self,
            dispatch,
        })
    }
}

/// One dispatch of a plan, for reading.
#[derive(Debug)]
pub struct DispatchInfo<'a> {
    plan: &'a Compiled,
    dispatch: &'a crate::gpu::program::Dispatch<Params>,
}

impl DispatchInfo<'_> {
    /// The kernel: the stem of its file under `shaders/batch_norm`, and its entry point.
    pub fn kernel(&self) -> &'static str {
        self.dispatch.kernel.name
    }

    /// The grid, in workgroups.
    pub fn grid(&self) -> [u32; 2] {
        self.dispatch.grid(self.plan.kernels.caps().max_groups)
    }

    /// The values of the kernel's override constants, invocations in a workgroup among them.
    pub fn overrides(&self) -> &[(&'static str, u32)] {
        &self.dispatch.kernel.overrides
    }

    /// The files that the names in `#import` lines stand for.
    pub fn choices(&self) -> &[(&'static str, &'static str)] {
        &self.dispatch.kernel.choices
    }

    /// The composed WGSL, as the device compiled it.
    pub fn wgsl(&self) -> String {
        let kernel = &self.dispatch.kernel;
        // It was composed when the plan was made.
        compose(kernel.name, self.plan.program.sources, &kernel.choices).unwrap_or_default()
    }
}

/// Writes one accessor of a buffer's size.
macro_rules! sizes {
    ($($(#[$doc:meta])* $name:ident: $field:ident;)+) => {
        $($(#[$doc])* pub fn $name(&self) -> u64 { self.0.bytes(Field::$field) })+

        /// The dispatches, in order.
        pub fn dispatches(&self) -> impl Iterator<Item = DispatchInfo<'_>> {
            self.0.dispatches()
        }
    };
}

pub(super) use sizes;

/// Forward in training: normalizes by the batch's own statistics, saves them for backward, and moves the
/// running ones.
#[derive(Debug)]
pub struct TrainPlan(Compiled);

/// The caller's memory for a [`TrainPlan`]: slices of storage buffers, each at least as long as the plan
/// says, beginning at a multiple of `min_storage_buffer_offset_alignment`.
#[derive(Clone, Copy, Debug)]
pub struct TrainBuffers<'a> {
    /// Input, in memory order, of the problem's storage type.
    pub x: BufferSlice<'a>,
    /// Output, of the input's shape. Written, with the padding up to a whole vector of four.
    pub y: BufferSlice<'a>,
    /// What the epilogue adds, of the input's shape; `None` if it adds nothing.
    pub residual: Option<BufferSlice<'a>>,
    /// f32 rows `[weight: C] [bias: C]`, as far as the configuration has them; `None` if it has neither.
    pub affine: Option<BufferSlice<'a>>,
    /// Rows `[running_mean: C] [running_var: C]` of f32 and `[num_batches_tracked: C]` of u32, the counter
    /// once for each channel. Read and written. `None` without `track_running_stats`.
    pub running: Option<BufferSlice<'a>>,
    /// f32 rows `[mean: C] [inv_std: C] [residual: C]`, for backward. Written. The residual is what rounding
    /// left out of the mean.
    pub saved: BufferSlice<'a>,
    /// Memory that holds nothing between two steps, so that steps in one encoder may share it. May be `None`
    /// if `scratch_bytes` is 0.
    pub scratch: Option<BufferSlice<'a>>,
}

impl TrainPlan {
    /// Plans and compiles for one problem.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Self, PlanError> {
        Self::with_tuning(kernels, problem, config, Tuning::default())
    }

    /// As [`new`](Self::new), with the strategy or the tile forced.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`PlanError::Strategy`] or [`PlanError::Tile`] for what cannot be.
    pub fn with_tuning(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        tuning: Tuning,
    ) -> Result<Self, PlanError> {
        let program = plan::train(kernels.caps(), problem.into(), config, tuning)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `x` and of `y`.
        activation_bytes: X;
        /// Bytes of `affine`; 0 if it is to be `None`.
        affine_bytes: Affine;
        /// Bytes of `running`; 0 if it is to be `None`.
        running_bytes: Running;
        /// Bytes of `saved`.
        saved_bytes: Saved;
        /// Bytes of `scratch`; 0 if it may be `None`.
        scratch_bytes: Scratch;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &TrainBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm train",
            &[
                (Field::X, Some(buffers.x)),
                (Field::Y, Some(buffers.y)),
                (Field::Residual, buffers.residual),
                (Field::Affine, buffers.affine),
                (Field::Running, buffers.running),
                (Field::Saved, Some(buffers.saved)),
                (Field::Scratch, buffers.scratch),
            ],
        )
    }
}

/// Forward outside training: normalizes by the running statistics, which stay as they are. Without
/// `track_running_stats`, by the batch's own, as torch does.
#[derive(Debug)]
pub struct EvalPlan(Compiled);

/// The caller's memory for an [`EvalPlan`], as [`TrainBuffers`].
#[derive(Clone, Copy, Debug)]
pub struct EvalBuffers<'a> {
    /// See [`TrainBuffers::x`].
    pub x: BufferSlice<'a>,
    /// See [`TrainBuffers::y`]; `None` if the output goes over `x`.
    pub y: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::residual`].
    pub residual: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::affine`].
    pub affine: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::running`]; only read.
    pub running: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::saved`]; `None` if `saved_bytes` is 0, as with running statistics.
    pub saved: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::scratch`].
    pub scratch: Option<BufferSlice<'a>>,
}

impl EvalPlan {
    /// Plans and compiles for one problem.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Self, PlanError> {
        Self::with_options(kernels, problem, config, EvalOptions::default())
    }

    /// As [`new`](Self::new), in place or with the strategy or the tile forced.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`PlanError::Unsupported`], [`PlanError::Strategy`] or [`PlanError::Tile`] for
    /// what cannot be.
    pub fn with_options(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        options: EvalOptions,
    ) -> Result<Self, PlanError> {
        let program = plan::eval(kernels.caps(), problem.into(), config, options)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `x` and of `y`.
        activation_bytes: X;
        /// Bytes of `affine`; 0 if it is to be `None`.
        affine_bytes: Affine;
        /// Bytes of `running`; 0 if it is to be `None`.
        running_bytes: Running;
        /// Bytes of `saved`; 0 if it may be `None`.
        saved_bytes: Saved;
        /// Bytes of `scratch`; 0 if it may be `None`.
        scratch_bytes: Scratch;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &EvalBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm eval",
            &[
                (Field::X, Some(buffers.x)),
                (Field::Y, buffers.y),
                (Field::Residual, buffers.residual),
                (Field::Affine, buffers.affine),
                (Field::Running, buffers.running),
                (Field::Saved, buffers.saved),
                (Field::Scratch, buffers.scratch),
            ],
        )
    }
}

/// Backward: the gradients with respect to input, weight and bias.
#[derive(Debug)]
pub struct BackwardPlan(Compiled);

/// The caller's memory for a [`BackwardPlan`], as [`TrainBuffers`].
#[derive(Clone, Copy, Debug)]
pub struct BackwardBuffers<'a> {
    /// The input of the forward pass.
    pub x: BufferSlice<'a>,
    /// The gradient with respect to the output, of the input's shape. Overwritten by dx where that is to go in
    /// place.
    pub dy: BufferSlice<'a>,
    /// The gradient with respect to the input. Written, with the padding up to a whole vector of four. `None` if
    /// it is not wanted or goes over `dy`.
    pub dx: Option<BufferSlice<'a>>,
    /// What the forward pass normalized by: [`TrainBuffers::saved`], or for a plan made by
    /// [`BackwardPlan::frozen`] the running statistics, [`TrainBuffers::running`].
    pub statistics: BufferSlice<'a>,
    /// See [`TrainBuffers::affine`].
    pub affine: Option<BufferSlice<'a>>,
    /// The output of the forward pass if the epilogue adds; else `None`.
    pub output: Option<BufferSlice<'a>>,
    /// The gradient with respect to the residual if the epilogue adds; else `None`. Written.
    pub dresidual: Option<BufferSlice<'a>>,
    /// f32 rows `[dweight: C] [dbias: C]`, as far as the configuration has them. Overwritten or added to; `None` if
    /// they are not wanted.
    pub grads: Option<BufferSlice<'a>>,
    /// See [`TrainBuffers::scratch`].
    pub scratch: Option<BufferSlice<'a>>,
}

impl BackwardPlan {
    /// Plans and compiles the gradients of [`TrainPlan`] for one problem.
    ///
    /// # Errors
    /// [`PlanError`], naming the field at fault.
    pub fn new(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Self, PlanError> {
        Self::with_options(kernels, problem, config, BackwardOptions::default())
    }

    /// Plans and compiles the gradients of [`EvalPlan`] with running statistics, for one problem: those are
    /// constants, so that dx is dy times a factor for each channel.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`PlanError::NoRunningStatistics`].
    pub fn frozen(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
    ) -> Result<Self, PlanError> {
        let options = BackwardOptions {
            frozen: true,
            ..BackwardOptions::default()
        };
        Self::with_options(kernels, problem, config, options)
    }

    /// As [`new`](Self::new), with a choice of gradients and of where they go. A strategy is forced where there is a
    /// choice: with frozen statistics, an epilogue that adds, or without dx there is none.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`PlanError::Unsupported`], [`PlanError::Strategy`] or [`PlanError::Tile`] for
    /// what cannot be.
    pub fn with_options(
        kernels: &Kernels,
        problem: impl Into<Problem>,
        config: &BatchNormConfig,
        options: BackwardOptions,
    ) -> Result<Self, PlanError> {
        let program = plan::backward(kernels.caps(), problem.into(), config, options)?;
        Compiled::new(kernels, program).map(Self)
    }

    sizes! {
        /// Bytes of `x`, of `dy` and of `dx`.
        activation_bytes: X;
        /// Bytes of `statistics`.
        statistics_bytes: Statistics;
        /// Bytes of `affine`; 0 if it is to be `None`.
        affine_bytes: Affine;
        /// Bytes of `grads`; 0 if it is to be `None`.
        grads_bytes: Grads;
        /// Bytes of `scratch`; 0 if it may be `None`.
        scratch_bytes: Scratch;
    }

    /// Checks the buffers and binds them.
    ///
    /// # Errors
    /// [`BindError`], naming the field at fault.
    pub fn bind(&self, buffers: &BackwardBuffers<'_>) -> Result<Step, BindError> {
        self.0.bind(
            "batch_norm backward",
            &[
                (Field::X, Some(buffers.x)),
                (Field::Dy, Some(buffers.dy)),
                (Field::Dx, buffers.dx),
                (Field::Output, buffers.output),
                (Field::Dresidual, buffers.dresidual),
                (Field::Statistics, Some(buffers.statistics)),
                (Field::Affine, buffers.affine),
                (Field::Grads, buffers.grads),
                (Field::Scratch, buffers.scratch),
            ],
        )
    }
}
