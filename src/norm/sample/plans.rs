//! The plans of every norm of this room.

use super::config::{SampleNorm, Sealed};
use super::options::{BackwardOptions, ForwardOptions};
use crate::norm::plan::{Plan, buffers, constructors};

/// Forward, in training and outside of it: normalizes by the statistics of each sample, and saves them for backward.
pub type ForwardPlan = Plan<Forward>;

buffers! {
    /// The caller's memory for a [`ForwardPlan`].
    ForwardBuffers of Forward, "norm forward";
    /// Input, in memory order, of the problem's storage type.
    x: X,
    /// Output, of the input's shape. Written, with the padding up to a whole vector of four values.
    y: Y,
    /// f32 rows `[mean] [inv_std] [mean_low]`, one value for each statistic ([`SavedRows`](crate::norm::rows::SavedRows)), for
    /// backward. Written.
    saved: SAVED,
    ;
    /// f32 rows `[weight] [bias]` of those that the configuration has ([`SampleNorm::affine_rows_of`]); `None` if it has neither.
    affine: AFFINE,
    /// The tensor that the epilogue adds, or that is added to the input with
    /// [`prenorm`](crate::norm::sample::ForwardOptions::prenorm), of the input's shape; `None` if nothing is added.
    residual: RESIDUAL,
    /// The sum of input and residual with `prenorm`, of the input's shape; else `None`. Written.
    added: ADDED,
    /// The moments of each statistic, for running ones, with
    /// [`InstanceNormConfig::track_running_stats`](crate::InstanceNormConfig::track_running_stats): f32 rows `[mean] [mean_low]
    /// [m2] [count]` ([`MomentRows`](crate::norm::rows::MomentRows)), where `mean_low` is 0; else `None`. An empty batch leaves
    /// them as they are. Written.
    moments: MOMENTS,
    /// Memory whose content ends with a step, so that steps in one encoder may share it. `None` if `scratch_bytes` is 0.
    scratch: SCRATCH,
}

constructors!(ForwardPlan: impl SampleNorm, ForwardOptions, Sealed::forward);

/// Backward: the gradients of input, weight and bias.
pub type BackwardPlan = Plan<Backward>;

buffers! {
    /// The caller's memory for a [`BackwardPlan`].
    BackwardBuffers of Backward, "norm backward";
    /// What the forward pass has normalized: its input, or with `prenorm` the sum [`ForwardBuffers::added`].
    x: X,
    /// The gradient of the output, of the input's shape. Overwritten by dx if that goes in place.
    dy: DY,
    /// [`ForwardBuffers::saved`] of the forward pass.
    saved: SAVED,
    ;
    /// The gradient of the input. Written, with the padding up to a whole vector of four values. `None` if it is not wanted
    /// or goes over `dy`.
    dx: DX,
    /// See [`ForwardBuffers::affine`].
    affine: AFFINE,
    /// f32 rows `[dweight] [dbias]`, as those of `affine`. Overwritten or added to; `None` if they are not
    /// wanted.
    grads: GRADS,
    /// The output of the forward pass if the epilogue adds; else `None`.
    output: OUTPUT,
    /// The gradient that the input has by another way, of the input's shape, with
    /// [`prenorm`](crate::norm::sample::BackwardOptions::prenorm); else `None`.
    dadded: DADDED,
    /// The gradient of the residual if the epilogue adds; else `None`. Written.
    dresidual: DRESIDUAL,
    /// See [`ForwardBuffers::scratch`].
    scratch: SCRATCH,
}

constructors!(BackwardPlan: impl SampleNorm, BackwardOptions, Sealed::backward);
