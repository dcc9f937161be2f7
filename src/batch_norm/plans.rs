//! The plans of whole passes.

use super::config::BatchNormConfig;
use super::options::{BackwardOptions, EvalOptions, TrainOptions};
use super::program;
use crate::norm::plan::{Plan, buffers, constructors};

/// Forward in training: normalizes by the batch's own statistics, saves them for backward, and moves the running ones.
pub type TrainPlan = Plan<Train>;

buffers! {
    /// The caller's memory for a [`TrainPlan`].
    TrainBuffers of Train, "batch_norm train";
    /// Input, in memory order, of the problem's storage type.
    x: X,
    /// Output, of the input's shape. Written, with the padding up to a whole vector of four values.
    y: Y,
    /// f32 rows `[mean: C] [inv_std: C] [mean_low: C]` ([`SavedRows`](super::SavedRows)), for backward. Written. The mean
    /// is `mean + mean_low`: `mean` alone is rounded to about a millionth of the deviation.
    saved: SAVED,
    ;
    /// f32 rows `[weight: C] [bias: C]` of those that the configuration has ([`AffineRows`](super::AffineRows)); `None` if
    /// it has neither.
    affine: AFFINE,
    /// Rows `[running_mean: C] [running_var: C]` of f32, and `[num_batches_tracked: C] [num_batches_skipped: C]` of u32
    /// ([`RunningRows`](super::RunningRows)). Read and written. `None` without `track_running_stats`.
    running: RUNNING,
    /// The tensor that the epilogue adds, of the input's shape; `None` if it adds nothing.
    residual: RESIDUAL,
    /// Memory whose content ends with a step, so that steps in one encoder may share it. `None` if `scratch_bytes` is 0.
    scratch: SCRATCH,
}

constructors!(TrainPlan: BatchNormConfig, TrainOptions, program::train);

/// Forward outside training: normalizes by the running statistics, which stay as they are. Without
/// `track_running_stats`, by the batch's own, as torch does.
pub type EvalPlan = Plan<Eval>;

buffers! {
    /// The caller's memory for an [`EvalPlan`].
    EvalBuffers of Eval, "batch_norm eval";
    /// See [`TrainBuffers::x`].
    x: X,
    ;
    /// See [`TrainBuffers::y`]; `None` if the output goes over `x`.
    y: Y,
    /// See [`TrainBuffers::affine`].
    affine: AFFINE,
    /// See [`TrainBuffers::running`]; only read.
    running: RUNNING,
    /// See [`TrainBuffers::residual`].
    residual: RESIDUAL,
    /// See [`TrainBuffers::saved`]; `None` if `saved_bytes` is 0, as with running statistics.
    saved: SAVED,
    /// See [`TrainBuffers::scratch`].
    scratch: SCRATCH,
}

constructors!(EvalPlan: BatchNormConfig, EvalOptions, program::eval);

/// Backward: the gradients of input, weight and bias: those of [`TrainPlan`], or with
/// [`frozen`](BackwardOptions::frozen) those of [`EvalPlan`] with running statistics. These are constants, so that dx is dy
/// times a factor for each channel.
pub type BackwardPlan = Plan<Backward>;

buffers! {
    /// The caller's memory for a [`BackwardPlan`].
    BackwardBuffers of Backward, "batch_norm backward";
    /// The input of the forward pass.
    x: X,
    /// The gradient of the output, of the input's shape. Overwritten by dx if that goes in place.
    dy: DY,
    ;
    /// The gradient of the input. Written, with the padding up to a whole vector of four values. `None` if it is not wanted
    /// or goes over `dy`.
    dx: DX,
    /// [`TrainBuffers::saved`] of the forward pass; `None` with frozen statistics.
    saved: SAVED,
    /// [`TrainBuffers::running`], of which the first two rows suffice, with frozen statistics; else `None`.
    running: RUNNING,
    /// See [`TrainBuffers::affine`].
    affine: AFFINE,
    /// f32 rows `[dweight: C] [dbias: C]` of those that the configuration has ([`AffineRows`](super::AffineRows)).
    /// Overwritten or added to; `None` if they are not wanted.
    grads: GRADS,
    /// The output of the forward pass if the epilogue adds; else `None`.
    output: OUTPUT,
    /// The gradient of the residual if the epilogue adds; else `None`. Written.
    dresidual: DRESIDUAL,
    /// See [`TrainBuffers::scratch`].
    scratch: SCRATCH,
}

constructors!(BackwardPlan: BatchNormConfig, BackwardOptions, program::backward);
