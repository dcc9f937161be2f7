//! The bytes that dispatches move.

use std::ops::Add;

use wgpu_norm::{Access, Launch};

/// Bytes of activations, by the ranges that a plan binds. Statistics, parameters and scratch memory do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub read: u64,
    pub written: u64,
}

impl Moved {
    /// Those of a dispatch. A kernel that rereads reads its inputs twice, and a pre-norm sum in place of its input.
    pub fn of(launch: &Launch) -> Self {
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
            let size = bytes.end - bytes.start;
            let in_place = u64::from(binding.access == Access::Write);
            let (read, written) = match binding.name {
                // What the sum is made of is read once. It is written, and the second time read in their place.
                "x" if sums => (1, 0),
                "added" => (times - 1, 1),
                "x" | "dy" => (times, in_place),
                "residual" | "output" | "dresidual" => (1, 0),
                "y" | "dx" | "dadded" => (0, 1),
                _ => (0, 0),
            };
            Some(Self {
                read: read * size,
                written: written * size,
            })
        });
        bound.fold(Self::default(), Self::add)
    }

    pub fn bytes(self) -> u64 {
        self.read + self.written
    }
}

impl Add for Moved {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            read: self.read + other.read,
            written: self.written + other.written,
        }
    }
}
