//! The kernels that norms are made of: a file for each entry point in `shaders/norm`, with its twin for tests.

pub mod add_sums;
pub mod backward_frozen;
pub mod backward_normalize;
pub mod backward_reread;
pub mod backward_resident;
pub mod backward_rows;
pub mod backward_stats;
pub mod finalize;
pub mod forward_reread;
pub mod forward_resident;
pub mod normalize;
pub mod stats;

use super::partition::Geometry;
use crate::gpu::compose::Choice;

/// Partial results of forward kernels, and the floats of one entry.
const MOMENTS: Choice = ("monoid", "moments");
pub const MOMENTS_FLOATS: u64 = 4;

/// Partial results of backward kernels, and the floats of one entry.
const SUMS: Choice = ("monoid", "sums");
pub const SUMS_FLOATS: u64 = 2;

/// How many vectors a lane holds in registers.
fn register_vectors(geometry: &Geometry) -> (&'static str, u32) {
    ("REGISTER_VECTORS", geometry.held_vectors())
}
