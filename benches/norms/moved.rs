//! The bytes that dispatches move.

use wgpu_norm::{Access, Launch};

/// Bytes of activations that a dispatch reads and writes, by the ranges that its plan binds. A kernel that rereads reads
/// its inputs twice, and a pre-norm sum in place of its input. Statistics, parameters and scratch memory do not count.
pub fn moved(launch: &Launch) -> u64 {
    let times = if launch.entry_point.ends_with("_reread") {
        2
    } else {
        1
    };
    let sums = launch
        .bindings
        .iter()
        .any(|binding| binding.name == "added");
    let bound = launch.bindings.iter().filter_map(|binding| {
        let bytes = binding.bytes.as_ref()?;
        let written = binding.access == Access::Write;
        let passes = match binding.name {
            // What the sum is made of is read once. It is written, and the second time read in their place.
            "x" if sums => 1,
            "added" => times,
            // In place, what is read is written, too.
            "x" | "dy" => times + u64::from(written),
            "y" | "dx" | "residual" | "output" | "dresidual" | "dadded" => 1,
            _ => 0,
        };
        Some(passes * (bytes.end - bytes.start))
    });
    bound.sum()
}
