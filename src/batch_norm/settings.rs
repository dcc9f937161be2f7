//! The numbers of a BatchNorm in the uniform.

use bytemuck::{Pod, Zeroable};

use super::config::BatchNormConfig;
use crate::norm::uniform::Settings;

/// `Settings` of `settings_momentum.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct MomentumSettings {
    pub eps: f32,
    pub momentum: f32,
}

impl MomentumSettings {
    pub fn new(config: &BatchNormConfig) -> Self {
        Self {
            eps: config.eps,
            // The cumulative average does without.
            momentum: config.momentum.share().unwrap_or(0.0),
        }
    }
}

impl Settings for MomentumSettings {
    #[cfg(test)]
    fn eps(&self) -> f32 {
        self.eps
    }
}
