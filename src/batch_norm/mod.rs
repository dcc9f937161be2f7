//! Batch normalization over one batch, on one device.
//!
//! * [`BatchNorm`] is the layer: one call for each pass. It owns parameters, running statistics and the memory of its results.
//! * [`TrainPlan`], [`EvalPlan`] and [`BackwardPlan`] are the passes for callers with buffers and an encoder of their own. A plan
//!   is made once for a problem, bound once to buffers, and recorded any number of times.
//! * [`StatsPlan`], [`CombinePlan`], [`FinalizePlan`], [`ApplyPlan`], [`BackwardReducePlan`], [`BackwardCombinePlan`] and
//!   [`BackwardApplyPlan`] are pieces of passes, for callers who divide a batch over several devices or calls.
//!   [`InstancesPlan`] moves running statistics by those of an InstanceNorm.
//! * [`TrainPlan::describe`] and [`Line::launches`] give the dispatches as data, to callers whose engine launches kernels.
//!
//! # What goes with what
//!
//! Every storage type ([`Dtype`](crate::Dtype)), [`Epilogue`], rank and layout goes with every row of this table. Backward goes
//! with every choice of [`ParameterGradients`], but a pass that is asked for no gradient at all is `Unsupported`. A test
//! checks the table.
//!
//! | pass | statistics | result | supported |
//! |---|---|---|---|
//! | forward | batch | out of place | yes |
//! | forward | batch | in place | `Unsupported` |
//! | forward | running | out of place | yes |
//! | forward | running | in place | yes |
//! | backward | batch | out of place | yes |
//! | backward | batch | in place | yes |
//! | backward | batch | none | yes |
//! | backward | running | out of place | yes |
//! | backward | running | in place | yes |
//! | backward | running | none | yes |
//!
//! In place means `y` over `x`, or `dx` over `dy`. Forward with the batch's statistics reads `x` twice, and backward needs `x`
//! again. Backward with running statistics needs `x` only for the weight's gradient.
//!
//! # Packed buffers
//!
//! Small arrays of one role share a buffer. The configuration gives the byte range of each row.
//!
//! * `affine`, weight and bias: `[weight: C] [bias: C]` of those that there are ([`BatchNormConfig::affine_rows`])
//! * `grads`, their gradients: the same rows
//! * `running`: `[running_mean: C] [running_var: C]`, and `[num_batches_tracked: C] [num_batches_skipped: C]` in u32
//!   ([`BatchNormConfig::running_rows`])
//! * `saved`, for backward: `[mean: C] [inv_std: C] [mean_low: C]` ([`BatchNormConfig::saved_rows`])
//! * `moments`, and each of `parts`: `[mean: C] [mean_low: C] [m2: C] [count: C]` ([`BatchNormConfig::moment_rows`])
//! * `sums`, and each of `parts`: `[dweight: C] [dbias: C] [count: C]` ([`BatchNormConfig::sum_rows`])
//!
//! `mean_low` is what rounding left out of the mean; the mean is the sum of both.
//!
//! # Memory between forward and backward
//!
//! A channel of one sample has `S` values of `b` bytes. Forward keeps its input, `N * C * S * b` bytes, and 12 bytes a channel.
//! ReLU keeps nothing more; torch's separate ReLU keeps its output, another `N * C * S * b`. With [`Epilogue::AddRelu`] the output
//! is kept too, which the next layer keeps in any case as its input.

mod average;
mod config;
mod freeze;
mod layer;
mod line;
mod moments;
mod options;
mod pieces;
mod plans;
mod policy;
mod precise;
mod preset;
mod program;
mod program_pieces;
mod settings;
mod state;
mod tune;

#[cfg(test)]
mod proof;

pub use crate::gpu::Step;
pub use crate::norm::layer::{BackwardError, Gradients, Input, Saved, Wanted};
pub use crate::norm::line::Common;
pub use crate::norm::options::{Destination, Epilogue, ParameterGradients};
pub use crate::norm::plan::Plan;
pub use crate::norm::rows::{AffineRows, MomentRows, RunningRows, SavedRows, SumRows};
pub use crate::norm::tile::Tile;
pub use crate::norm::tuner::Tuner;
pub use crate::norm::tuning::{Strategy, Tuning};
pub use average::{AveragedStatistics, StateAverage};
pub use config::BatchNormConfig;
pub use freeze::Freeze;
pub use layer::{BatchNorm, LayerTuning};
pub use line::{Line, Pass};
pub use moments::Drift;
pub(crate) use moments::stats_step;
pub use options::{BackwardOptions, EvalOptions, PieceOptions, TrainOptions};
pub use pieces::{
    Apply, ApplyBuffers, ApplyPlan, BackwardApply, BackwardApplyBuffers, BackwardApplyPlan,
    BackwardCombine, BackwardCombineBuffers, BackwardCombinePlan, BackwardReduce,
    BackwardReduceBuffers, BackwardReducePlan, CombineBuffers, CombineParts, CombinePlan, Finalize,
    FinalizeBuffers, FinalizePlan, Instances, InstancesBuffers, InstancesPlan, Stats, StatsBuffers,
    StatsPlan,
};
pub use plans::{
    Backward, BackwardBuffers, BackwardPlan, Eval, EvalBuffers, EvalPlan, Train, TrainBuffers,
    TrainPlan,
};
pub use policy::{Momentum, NonFinite, RunningVariance, SingleValue};
pub use precise::PreciseStatistics;
pub use preset::Preset;
pub use state::State;
