//! Batch normalization over one batch, one device.
//!
//! [`BatchNorm`] is the layer: it owns parameters, running statistics and the memory of its outputs.
//! Below it stand the plans, for callers with buffers and an encoder of their own: a plan is made once for a
//! shape, bound once to buffers, and recorded any number of times.

mod backward_finalize;
mod backward_frozen;
mod backward_normalize;
mod backward_reread;
mod backward_stats;
mod config;
mod finalize;
mod forward_reread;
mod layer;
mod normalize;
mod options;
mod params;
mod plan;
mod plans;
mod stats;
mod tuning;

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
pub use plans::{
    BackwardBuffers, BackwardPlan, DispatchInfo, EvalBuffers, EvalPlan, TrainBuffers, TrainPlan,
};
pub use tuning::{Strategy, Tuning};

use crate::gpu::compose::{Source, sources};

/// The files of `shaders/batch_norm`.
const SOURCES: &[Source] = sources!("batch_norm":
    affine, apply, backward_apply, backward_coefficients, backward_collect, backward_finalize,
    backward_frozen, backward_normalize, backward_reread, backward_settle, backward_stats,
    coefficients, collect, epilogue_add_relu, epilogue_identity, epilogue_relu, finalize,
    forward_reread, gather_partials, gradients_apart, gradients_in_place, gradients_read,
    incoming_add_relu, incoming_identity, incoming_relu, known_statistics, normalize, params,
    partials, settle, standardize, stats, store_partial, values_apart, values_in_place,
);
