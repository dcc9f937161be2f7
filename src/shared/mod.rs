//! The host's side of `shaders/shared`: how a tensor is walked, and the twins of the declarations that
//! every norm builds on. Stems are those of the shader files.

#[cfg(test)]
pub mod block_reduce;
#[cfg(test)]
mod element;
#[cfg(test)]
pub mod layout;
#[cfg(test)]
pub mod moments;
#[cfg(test)]
pub mod sums;
pub mod walk;

use crate::gpu::compose::{Source, sources};

/// The declarations that every norm shares.
pub const SOURCES: &[Source] = sources!("shared":
    block_reduce, columns_1, columns_16, columns_2, columns_4, columns_8, element_bf16, element_f16, element_f32, element_f32_wide,
    held_16, held_32, held_4, held_8,
    layout_columns, layout_planes, moments, relu, slot_channel, slot_columns,
    sums, walk, workgroup,
);
