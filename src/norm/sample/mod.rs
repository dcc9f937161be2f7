//! What norms share whose statistics come from each sample alone: no running statistics, and one forward pass for training
//! and evaluation.

mod config;
mod layer;
mod line;
mod options;
mod plans;
mod tune;

pub use config::{Members, Params, SampleNorm, Sealed};
pub use layer::{Layer, LayerTuning, Passes};
pub use line::{Line, Pass};
pub use options::{BackwardOptions, ForwardOptions};
pub use plans::{Backward, BackwardBuffers, BackwardPlan, Forward, ForwardBuffers, ForwardPlan};
