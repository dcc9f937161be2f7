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
            total.offset[c] += delta * other.count[c] / count;
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
