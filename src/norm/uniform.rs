//! The uniform of every norm's kernels: `params.wgsl`, field for field.

use bytemuck::{Pod, Zeroable};

use super::partition::Geometry;
use crate::gpu::program::Uniform;

/// `Reduction` of `params.wgsl`, which explains the fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Reduction {
    pub count: f32,
    pub inverse_count: f32,
    pub head: u32,
    pub chunk_stride: u32,
    pub outer_stride: u32,
    pub first_chunk: u32,
    pub chunks: u32,
    pub plane: u32,
    pub periods: u32,
    pub parts: u32,
    pub part_stride: u32,
    pub zero: u32,
}

/// `Params` of `params.wgsl`. `S` is the norm's own `Settings`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Params<S> {
    pub geometry: Geometry,
    pub reduction: Reduction,
    pub settings: S,
}

impl<S: Pod> Uniform for Params<S> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = bytemuck::bytes_of(&self.geometry).to_vec();
        bytes.extend(bytemuck::bytes_of(&self.reduction));
        bytes.extend(bytemuck::bytes_of(&self.settings));
        // A struct in a uniform is a multiple of 16 bytes.
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        bytes
    }
}

/// `Settings` of `settings_eps.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct EpsSettings {
    pub eps: f32,
}

/// A norm's own numbers.
pub trait Settings: Pod + PartialEq + std::fmt::Debug + Send + Sync {
    /// Added to the variance, inside the root. Twins read it.
    #[cfg(test)]
    fn eps(&self) -> f32;
}

impl Settings for EpsSettings {
    #[cfg(test)]
    fn eps(&self) -> f32 {
        self.eps
    }
}
