//! Shapes and tiles to try.

use crate::norm::tile::Tile;
use crate::shape::Shape;

/// Extents around the tiles below, in scalars and vectors of 4; primes; the smallest; rows that are no whole vectors.
pub const EXTENTS: [&str; 33] = [
    "n2c1",
    "n7c3",
    "n9c31",
    "n5c32",
    "n6c33",
    "n3c130",
    "n64c4",
    "n9c12",
    "n2c3l1",
    "n3c5l2",
    "n2c7l3",
    "n4c3l4",
    "n3c2l31",
    "n3c2l32",
    "n2c3l33",
    "n1c3l127",
    "n1c4l128",
    "n2c3l129",
    "n1c1l1021",
    "n8c16h1w1",
    "n16c4h3w3",
    "n17c12h5w1",
    "n16c3h2w2",
    "n4c5h7w7",
    "n2c8h6w6",
    "n3c20h3w3",
    "n1c6h3w5",
    "n5c1h9w8",
    "n2c9h11w13",
    "n2c300h4w4",
    "n3c65h5w5",
    "n2c3d2h3w5",
    "n1c8d3h4w4",
];

/// Rows of 125 vectors, which are 16 columns for each of eight lanes: whole rows, rows of which two and four are whole
/// vectors, and planes in columns.
pub const WIDE_EXTENTS: [&str; 4] = ["n9c500", "n6c250", "n5c125", "n16c20h5w5"];

/// The first of them.
pub const WIDEST: Shape = Shape::nc(9, 500);

/// Workgroups of one group of lanes, as on processors.
pub const CPU_TILE: Tile = Tile::new(8, 8).columns(2);
pub const WIDE_TILE: Tile = Tile::new(8, 8).columns(16);

/// Workgroups of several, as on GPUs.
pub const GPU_TILES: [Tile; 2] = [Tile::new(64, 32), Tile::new(256, 4)];

/// Numbers at random, the same at every call (SplitMix64): of any two settings, some cases have both.
#[derive(Default)]
pub struct Lottery(u64);

impl Lottery {
    pub fn one_in(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).is_multiple_of(n)
    }
}

/// All pairs.
pub fn product<A: Copy, B: Copy>(a: &[A], b: &[B]) -> Vec<(A, B)> {
    a.iter()
        .flat_map(|&a| b.iter().map(move |&b| (a, b)))
        .collect()
}

/// Shapes of these extents in both layouts.
pub fn shapes(extents: &[&str]) -> Vec<Shape> {
    extents
        .iter()
        .flat_map(|extents| {
            let first: Shape = extents.parse().expect("extents");
            let spatial = &first.to_string()[extents.len()..].trim_start()[2..].to_owned();
            let last = format!("{extents} n{spatial}c").parse().expect("extents");
            if first == last {
                vec![first]
            } else {
                vec![first, last]
            }
        })
        .collect()
}
