//! What can be chosen about a training.

use wgpu_norm::Dtype;

pub struct Settings {
    /// Whether the convolutions are followed by BatchNorm rather than a bias.
    pub batch_norm: bool,
    /// What the convolutions' results are stored as, and what BatchNorm makes of them.
    pub dtype: Dtype,
    pub learning_rate: f32,
    /// Images in a batch.
    pub batch: usize,
    pub seed: u64,
}
