//! The pieces that BatchNorm is made of, as plans of their own: for statistics over several devices, over parts of a batch,
//! or from a kernel of the caller's.
//!
//! [`TrainPlan`](super::TrainPlan) is [`StatsPlan`], [`FinalizePlan`] and [`ApplyPlan`] in one step, and
//! [`BackwardPlan`](super::BackwardPlan) is [`BackwardReducePlan`] and [`BackwardApplyPlan`]. Several devices exchange
//! moments, which [`FinalizePlan`] combines, and in backward sums, which [`BackwardCombinePlan`] adds.
//!
//! The moments, or sums, of several parts are in one buffer, `parts`. Part `p` begins at byte `p * caps.align(b)`, where `b`
//! is the size of one part, [`MomentRows::bytes`](super::MomentRows::bytes) or [`SumRows::bytes`](super::SumRows::bytes),
//! and [`Caps::align`](crate::Caps::align) rounds it up, so that a piece can write each part in place.

use super::config::BatchNormConfig;
use super::options::PieceOptions;
use super::program_pieces;
use crate::error::PlanError;
use crate::gpu::Kernels;
use crate::norm::plan::{Plan, buffers, constructors};

/// The moments of `x`: first piece of the forward pass. A single value a channel, or none, will do.
pub type StatsPlan = Plan<Stats>;

buffers! {
    /// The caller's memory for a [`StatsPlan`].
    StatsBuffers of Stats, "batch_norm stats";
    /// See [`TrainBuffers::x`](super::TrainBuffers::x).
    x: X,
    /// f32 rows `[mean: C] [mean_low: C] [m2: C] [count: C]` ([`MomentRows`](super::MomentRows)). The mean is the sum of the
    /// first two, m2 the sum of squared deviations from it. Written.
    moments: MOMENTS,
    ;
    /// See [`TrainBuffers::scratch`](super::TrainBuffers::scratch).
    scratch: SCRATCH,
}

/// The moments of several parts of a batch become those of the whole.
pub type CombinePlan = Plan<CombineParts>;

buffers! {
    /// The caller's memory for a [`CombinePlan`].
    CombineBuffers of CombineParts, "batch_norm combine";
    /// [`StatsBuffers::moments`] of each part, at the distance that the module's documentation gives.
    parts: PARTS,
    /// Those of the whole. Written.
    moments: MOMENTS,
    ;
}

/// Moments of one or several parts become statistics, and move the running ones: second piece of the forward pass.
pub type FinalizePlan = Plan<Finalize>;

buffers! {
    /// The caller's memory for a [`FinalizePlan`].
    FinalizeBuffers of Finalize, "batch_norm finalize";
    /// See [`CombineBuffers::parts`]. A channel whose count is zero keeps its statistics.
    parts: PARTS,
    /// See [`TrainBuffers::saved`](super::TrainBuffers::saved). Written.
    saved: SAVED,
    ;
    /// See [`TrainBuffers::running`](super::TrainBuffers::running).
    running: RUNNING,
}

/// Moments of instances, each a channel of one sample, move the running statistics as in torch's InstanceNorm: by the average
/// of their means, and by the average of their variances. A variance is over one value less than an instance has, or by
/// [`RunningVariance::Biased`](super::RunningVariance::Biased) over all of them. Momentum and counters are those of a batch.
pub type InstancesPlan = Plan<Instances>;

buffers! {
    /// The caller's memory for an [`InstancesPlan`].
    InstancesBuffers of Instances, "batch_norm instances";
    /// f32 rows `[mean: N C] [mean_low: N C] [m2: N C] [count: N C]` ([`MomentRows`](super::MomentRows)) for `N` samples, those
    /// of one sample after the other, as a [`ForwardPlan`](crate::instance_norm::ForwardPlan) with
    /// [`track_running_stats`](crate::InstanceNormConfig::track_running_stats) writes them. All counts are equal.
    moments: MOMENTS,
    ;
    /// See [`TrainBuffers::running`](super::TrainBuffers::running).
    running: RUNNING,
}

/// `y` by statistics that are saved: last piece of the forward pass.
pub type ApplyPlan = Plan<Apply>;

buffers! {
    /// The caller's memory for an [`ApplyPlan`].
    ApplyBuffers of Apply, "batch_norm apply";
    /// See [`TrainBuffers::x`](super::TrainBuffers::x).
    x: X,
    /// See [`TrainBuffers::saved`](super::TrainBuffers::saved); read.
    saved: SAVED,
    ;
    /// See [`EvalBuffers::y`](super::EvalBuffers::y).
    y: Y,
    /// See [`TrainBuffers::affine`](super::TrainBuffers::affine).
    affine: AFFINE,
    /// See [`TrainBuffers::residual`](super::TrainBuffers::residual).
    residual: RESIDUAL,
}

/// The sums that the gradients need: first piece of the backward pass.
pub type BackwardReducePlan = Plan<BackwardReduce>;

buffers! {
    /// The caller's memory for a [`BackwardReducePlan`].
    BackwardReduceBuffers of BackwardReduce, "batch_norm backward_reduce";
    /// See [`BackwardBuffers::x`](super::BackwardBuffers::x).
    x: X,
    /// See [`BackwardBuffers::dy`](super::BackwardBuffers::dy).
    dy: DY,
    /// See [`TrainBuffers::saved`](super::TrainBuffers::saved); read.
    saved: SAVED,
    /// f32 rows `[dweight: C] [dbias: C] [count: C]` ([`SumRows`](super::SumRows)): the sums of `x_hat * g` and of `g`, the
    /// gradient of the normalized values, and the number of values. Those of several parts add up. Written.
    sums: SUMS,
    ;
    /// See [`TrainBuffers::affine`](super::TrainBuffers::affine).
    affine: AFFINE,
    /// See [`BackwardBuffers::output`](super::BackwardBuffers::output).
    output: OUTPUT,
    /// See [`BackwardBuffers::dresidual`](super::BackwardBuffers::dresidual). Written.
    dresidual: DRESIDUAL,
    /// See [`TrainBuffers::scratch`](super::TrainBuffers::scratch).
    scratch: SCRATCH,
}

/// The sums of several parts of a batch become those of the whole.
pub type BackwardCombinePlan = Plan<BackwardCombine>;

buffers! {
    /// The caller's memory for a [`BackwardCombinePlan`].
    BackwardCombineBuffers of BackwardCombine, "batch_norm backward_combine";
    /// [`BackwardReduceBuffers::sums`] of each part, at the distance that the module's documentation gives.
    parts: PARTS,
    /// Those of the whole. Written.
    sums: SUMS,
    ;
}

/// `dx` by sums that are known: last piece of the backward pass.
pub type BackwardApplyPlan = Plan<BackwardApply>;

buffers! {
    /// The caller's memory for a [`BackwardApplyPlan`].
    BackwardApplyBuffers of BackwardApply, "batch_norm backward_apply";
    /// See [`BackwardBuffers::x`](super::BackwardBuffers::x).
    x: X,
    /// See [`BackwardBuffers::dy`](super::BackwardBuffers::dy).
    dy: DY,
    /// See [`TrainBuffers::saved`](super::TrainBuffers::saved); read.
    saved: SAVED,
    /// See [`BackwardReduceBuffers::sums`], of the whole batch.
    sums: SUMS,
    ;
    /// See [`BackwardBuffers::dx`](super::BackwardBuffers::dx).
    dx: DX,
    /// See [`TrainBuffers::affine`](super::TrainBuffers::affine).
    affine: AFFINE,
    /// [`BackwardReduceBuffers::dresidual`] if the epilogue adds; read in place of `dy`.
    dresidual: DRESIDUAL,
}

/// Writes the constructor of a piece that combines parts.
macro_rules! combining_piece {
    ($plan:ident: $program:ident) => {
        impl $plan {
            /// Plans and compiles for this many parts, which are samples for instances.
            ///
            /// # Errors
            /// [`PlanError`], naming the field at fault; [`PlanError::Unsupported`] for too many parts.
            pub fn new(
                kernels: &Kernels,
                config: &BatchNormConfig,
                parts: u32,
            ) -> Result<Self, PlanError> {
                let program = program_pieces::$program(kernels.caps(), config, parts)?;
                Self::compile(kernels, program)
            }
        }
    };
}

constructors!(StatsPlan: BatchNormConfig, PieceOptions, program_pieces::stats);
constructors!(ApplyPlan: BatchNormConfig, PieceOptions, program_pieces::apply);
constructors!(BackwardReducePlan: BatchNormConfig, PieceOptions, program_pieces::backward_reduce);
constructors!(BackwardApplyPlan: BatchNormConfig, PieceOptions, program_pieces::backward_apply);
combining_piece!(CombinePlan: combine);
combining_piece!(FinalizePlan: finalize);
combining_piece!(InstancesPlan: instances);
combining_piece!(BackwardCombinePlan: backward_combine);
