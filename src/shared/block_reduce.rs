//! The twin of `block_reduce.wgsl`.

use super::moments::Moments4;
use super::sums::Sums4;

/// The twin of the monoid that kernels bind as `monoid`: four independent components at a time.
pub trait Partial: Copy {
    /// Fields, each of four components.
    const FIELDS: usize;
    fn identity() -> Self;
    fn combine(self, other: Self) -> Self;
    /// The components, permuted.
    fn swizzle(self, order: [usize; 4]) -> Self;
    fn fields(self) -> Vec<[f64; 4]>;
    fn of_fields(fields: &[[f64; 4]]) -> Self;

    /// The four components combined into one, which then stands in all four.
    fn fold(self) -> Self {
        let pairs = self.combine(self.swizzle([2, 3, 0, 1]));
        pairs.combine(pairs.swizzle([1, 0, 3, 2])).swizzle([0; 4])
    }
}

/// The result for each of the first `width` lanes.
pub fn block_reduce<P: Partial>(mut lanes: Vec<P>, width: usize) -> Vec<P> {
    let mut half = lanes.len() / 2;
    while half >= width && half > 0 {
        for lane in 0..half {
            lanes[lane] = lanes[lane].combine(lanes[lane + half]);
        }
        half /= 2;
    }
    lanes.truncate(width);
    lanes
}

#[test]
fn a_tree_combines_the_lanes_of_each_column() {
    let lanes = (0..16)
        .map(|i| Sums4::of_fields(&[[f64::from(i); 4], [1.0; 4]]))
        .collect();
    let columns = block_reduce(lanes, 2);
    assert_eq!(columns[0].fields(), [[56.0; 4], [8.0; 4]]);
    assert_eq!(columns[1].fields(), [[64.0; 4], [8.0; 4]]);
}

#[test]
fn a_single_lane_is_its_own_total() {
    assert_eq!(block_reduce(vec![Moments4::identity()], 1).len(), 1);
}
