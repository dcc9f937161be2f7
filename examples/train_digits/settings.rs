//! What can be chosen about a training.

pub struct Settings {
    /// Whether the convolutions are followed by BatchNorm rather than a bias.
    pub batch_norm: bool,
    pub learning_rate: f32,
    /// Images in a batch.
    pub batch: usize,
    pub seed: u64,
}
