//! The uniform of every BatchNorm kernel: `params.wgsl`, field for field.

use bytemuck::{Pod, Zeroable};

use super::config::BatchNormConfig;
use crate::shared::walk::Geometry;

pub const HAS_WEIGHT: u32 = 1;
pub const HAS_BIAS: u32 = 2;
pub const TRACK: u32 = 4;
pub const CUMULATIVE: u32 = 8;
pub const PARAMETERS: u32 = 16;
pub const ACCUMULATE: u32 = 32;

/// `Params` of `params.wgsl`, which explains the fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Params {
    pub geometry: Geometry,
    pub flags: u32,
    pub eps: f32,
    pub momentum: f32,
    pub count: f32,
    pub inverse_count: f32,
    pub partials: u32,
    pub partial_components: u32,
    pub partial_chunk: u32,
    pub partial_plane: u32,
    pub partial_periods: u32,
    pub zero: u32,
    pub padding: u32,
}

impl Params {
    /// What all dispatches of a plan have in common; `values` is N * S.
    pub fn new(config: &BatchNormConfig, values: u32) -> Self {
        let flag = |on, flag| if on { flag } else { 0 };
        Self {
            flags: flag(config.weight, HAS_WEIGHT) | flag(config.bias, HAS_BIAS),
            eps: config.eps,
            count: values as f32,
            inverse_count: 1.0 / values.max(1) as f32,
            ..Self::default()
        }
    }

    /// The same, with the running statistics moved.
    pub fn tracking(self, config: &BatchNormConfig) -> Self {
        Self {
            flags: self.flags
                | TRACK
                | if config.momentum.is_none() {
                    CUMULATIVE
                } else {
                    0
                },
            momentum: config.momentum.unwrap_or(0.0),
            ..self
        }
    }

    #[cfg(test)]
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}
