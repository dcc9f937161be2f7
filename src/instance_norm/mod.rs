//! Instance normalization: each channel of each sample by its own statistics, in training and outside of it.
//!
//! [`InstanceNorm`] is the layer; below it are plans, for callers with buffers and an encoder of their own. It has torch's
//! names and defaults: neither weight nor bias unless asked for. It keeps no running statistics;
//! [`TrackedInstanceNorm`](crate::TrackedInstanceNorm) does.

mod config;
mod program;
mod sample;

#[cfg(test)]
mod proof;

pub use crate::gpu::Step;
pub use crate::norm::layer::{BackwardError, Gradients, Input, Saved, Wanted};
pub use crate::norm::line::Common;
pub use crate::norm::options::{Destination, Epilogue, ParameterGradients};
pub use crate::norm::plan::Plan;
pub use crate::norm::rows::{AffineRows, MomentRows, SavedRows};
pub use crate::norm::sample::{
    Backward, BackwardBuffers, BackwardOptions, BackwardPlan, Forward, ForwardBuffers,
    ForwardOptions, ForwardPlan, Layer, LayerTuning, Pass,
};
pub use crate::norm::tile::Tile;
pub use crate::norm::tuner::Tuner;
pub use crate::norm::tuning::{Strategy, Tuning};
pub use config::InstanceNormConfig;
pub use sample::{InstanceNorm, Line};
