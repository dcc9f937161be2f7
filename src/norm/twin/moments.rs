//! The twin of `moments.wgsl`.

use super::partial::Partial;

/// `Partial` of `moments.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct Moments4 {
    pub pivot: [f64; 4],
    pub offset: [f64; 4],
    pub m2: [f64; 4],
    pub count: [f64; 4],
}

impl Partial for Moments4 {
    const FIELDS: usize = 4;

    fn identity() -> Self {
        Self::of_fields(&[[0.0; 4]; 4])
    }

    // Sums of f64 are settled as they are: the pivot is the mean, and the offset zero.
    fn combine(self, other: Self) -> Self {
        let mut total = self;
        for c in 0..4 {
            if other.count[c] == 0.0 {
                continue;
            }
            if self.count[c] == 0.0 {
                (total.pivot[c], total.offset[c]) = (other.pivot[c], other.offset[c]);
                (total.m2[c], total.count[c]) = (other.m2[c], other.count[c]);
                continue;
            }
            let count = self.count[c] + other.count[c];
            let delta = (other.pivot[c] - self.pivot[c]) + (other.offset[c] - self.offset[c]);
            total.pivot[c] += total.offset[c] + delta * other.count[c] / count;
            total.offset[c] = 0.0;
            total.m2[c] += other.m2[c] + delta * delta * self.count[c] * other.count[c] / count;
            total.count[c] = count;
        }
        total
    }

    fn swizzle(self, order: [usize; 4]) -> Self {
        let pick = |field: [f64; 4]| order.map(|c| field[c]);
        Self {
            pivot: pick(self.pivot),
            offset: pick(self.offset),
            m2: pick(self.m2),
            count: pick(self.count),
        }
    }

    fn fields(self) -> Vec<[f64; 4]> {
        vec![self.pivot, self.offset, self.m2, self.count]
    }

    fn of_fields(fields: &[[f64; 4]]) -> Self {
        Self {
            pivot: fields[0],
            offset: fields[1],
            m2: fields[2],
            count: fields[3],
        }
    }
}

impl Moments4 {
    // accumulate_moments.wgsl
    pub fn with_block(mut self, sum: [f64; 4], squares: [f64; 4], count: [f64; 4]) -> Self {
        for c in 0..4 {
            let all = self.count[c] + count[c];
            let deviations = sum[c] - count[c] * self.offset[c];
            let way = deviations / all.max(1.0);
            let correction = self.offset[c] * (sum[c] + deviations) + deviations * way;
            self.m2[c] += squares[c] - correction;
            self.pivot[c] += self.offset[c] + way;
            self.offset[c] = 0.0;
            self.count[c] = all;
        }
        self
    }
}

#[test]
fn the_monoid_agrees_with_the_reference() {
    use crate::reference::Moments;

    let values = [
        [1.0, -3.0, 1e4],
        [2.0, 5.0, 1e4 + 1.0],
        [7.0, 0.5, 1e4 - 2.0],
    ];
    let single = |value: f64| Moments4 {
        pivot: [value; 4],
        count: [1.0; 4],
        ..Moments4::identity()
    };
    for row in values {
        let total = row
            .map(single)
            .into_iter()
            .fold(Moments4::identity(), Partial::combine);
        let wanted = Moments::of(row);
        approx::assert_relative_eq!(
            total.pivot[0] + total.offset[0],
            wanted.mean,
            max_relative = 1e-14
        );
        approx::assert_relative_eq!(total.m2[0], wanted.m2, max_relative = 1e-12);
        assert_eq!(total.count[0], 3.0);
        // Folding four equal components quadruples the count and the deviations, not the mean.
        let folded = total.fold();
        approx::assert_relative_eq!(
            folded.pivot[3] + folded.offset[3],
            wanted.mean,
            max_relative = 1e-14
        );
        approx::assert_relative_eq!(folded.m2[3], 4.0 * wanted.m2, max_relative = 1e-12);
        assert_eq!(folded.count, [12.0; 4]);
    }
}
