//! What can be chosen about a training.

use std::fmt;

use clap::ValueEnum;
use wgpu_norm::Dtype;
use wgpu_norm::sync::Group;

/// What follows the convolutions.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum WhichNorm {
    /// BatchNorm: a channel of the whole batch
    Batch,
    /// GroupNorm: a few channels of an image
    Group,
    /// LayerNorm: the channels of a pixel
    Layer,
    /// InstanceNorm: a channel of an image
    Instance,
    /// RMSNorm: the channels of a pixel, without a mean
    Rms,
    /// A bias
    None,
}

impl fmt::Display for WhichNorm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

pub struct Settings {
    pub norm: WhichNorm,
    /// What the convolutions' results are stored as, and what the norm makes of them.
    pub dtype: Dtype,
    pub learning_rate: f32,
    /// Images in a batch.
    pub batch: usize,
    pub seed: u64,
    /// Those that share a batch, if there are several.
    pub ranks: Option<Ranks>,
}

/// Several ranks with the same network, each with a part of the batch.
#[derive(Clone)]
pub struct Ranks {
    pub group: Group,
    /// Whether BatchNorm's statistics are those of the whole batch.
    pub synchronized: bool,
}
