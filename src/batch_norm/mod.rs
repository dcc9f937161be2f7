//! Batch normalization over one batch, one device.
//!
//! [`BatchNorm`] is the layer: it owns parameters, running statistics and the memory of its outputs.
//! Below it stand the plans, for callers with buffers and an encoder of their own: a plan is made once for a
//! problem, bound once to buffers, and recorded any number of times.
//!
//! # What goes with what
//!
//! Every storage type ([`Dtype`](crate::Dtype)), [`Epilogue`], rank and layout goes with every row of this table,
//! and backward with every choice of [`ParameterGradients`], except that a pass which is asked for no gradient at
//! all is `Unsupported`. A test holds the table.
//!
//! | pass | statistics | result | supported |
//! |---|---|---|---|
//! | forward | batch | apart | yes |
//! | forward | batch | in place | `Unsupported` |
//! | forward | running | apart | yes |
//! | forward | running | in place | yes |
//! | backward | batch | apart | yes |
//! | backward | batch | in place | yes |
//! | backward | batch | none | yes |
//! | backward | running | apart | yes |
//! | backward | running | in place | yes |
//! | backward | running | none | yes |
//!
//! In place means `y` over `x`, or `dx` over `dy`. Forward by batch statistics reads `x` twice, and backward needs
//! it once more. Backward of running statistics needs `x` for the weight's gradient only.
//!
//! # What is held between forward and backward
//!
//! `S` values a channel and sample, `b` bytes each: the input, `N * C * S * b`, and 12 bytes a channel. ReLU holds
//! nothing more, where torch's separate ReLU holds its output, another `N * C * S * b`. With
//! [`Epilogue::AddRelu`] the output is held too, which the layer that reads it holds in any case.

mod backward_finalize;
mod backward_frozen;
mod backward_normalize;
mod backward_reread;
mod backward_resident;
mod backward_stats;
mod choices;
mod config;
mod finalize;
mod forward_reread;
mod forward_resident;
mod layer;
mod normalize;
mod options;
mod params;
mod pieces;
mod plan;
mod plan_pieces;
mod plans;
mod stats;
mod trial;
mod tuner;
mod tuning;

#[cfg(test)]
mod cases;
#[cfg(test)]
mod check;
#[cfg(test)]
mod sabotage;
#[cfg(test)]
mod shaders;
#[cfg(test)]
mod twin;

pub use crate::gpu::Step;
pub use crate::shared::walk::Tile;
pub use config::BatchNormConfig;
pub use layer::{BatchNorm, Gradients, Saved, State};
pub use options::{BackwardOptions, Destination, Epilogue, EvalOptions, ParameterGradients};
pub use pieces::{
    ApplyBuffers, ApplyPlan, BackwardApplyBuffers, BackwardApplyPlan, BackwardReduceBuffers,
    BackwardReducePlan, CombineBuffers, CombinePlan, FinalizeBuffers, FinalizePlan, StatsBuffers,
    StatsPlan,
};
pub use plans::{
    BackwardBuffers, BackwardPlan, DispatchInfo, EvalBuffers, EvalPlan, TrainBuffers, TrainPlan,
};
pub use tuner::Tuner;
pub use tuning::{Strategy, Tuning};

use crate::gpu::compose::{Source, sources};

/// The files of `shaders/batch_norm`.
const SOURCES: &[Source] = sources!("batch_norm":
    affine, apply, backward_apply, backward_coefficients, backward_collect, backward_finalize,
    backward_frozen, backward_known, backward_normalize, backward_reread, backward_resident, backward_settle,
    backward_settle_unit, backward_stats,
    coefficients, collect, epilogue_add_relu, epilogue_identity, epilogue_relu, finalize,
    forward_reread, forward_resident, gather_partials, gradients_apart, gradients_in_place, gradients_read,
    incoming_add_relu, incoming_identity, incoming_relu, known_statistics, means_scratch, means_sums,
    normalize, outcome_gradients, outcome_moments, outcome_statistics, outcome_sums, params,
    partials, parts_moments, parts_scratch, settle, settle_mean, settle_unit, standardize, stats, store_partial, values_apart, values_in_place,
);
