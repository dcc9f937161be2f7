//! The twin of `block_reduce.wgsl`.

use super::partial::Partial;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norm::twin::moments::Moments4;
    use crate::norm::twin::sums::Sums4;

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
}
