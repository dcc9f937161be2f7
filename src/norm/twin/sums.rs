//! The twin of `sums.wgsl`.

use super::partial::Partial;

/// `Partial` of `sums.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct Sums4 {
    pub g: [f64; 4],
    pub x_hat_g: [f64; 4],
}

impl Partial for Sums4 {
    const FIELDS: usize = 2;

    fn identity() -> Self {
        Self::of_fields(&[[0.0; 4]; 2])
    }

    fn combine(self, other: Self) -> Self {
        let add = |a: [f64; 4], b: [f64; 4]| std::array::from_fn(|c| a[c] + b[c]);
        Self {
            g: add(self.g, other.g),
            x_hat_g: add(self.x_hat_g, other.x_hat_g),
        }
    }

    fn swizzle(self, order: [usize; 4]) -> Self {
        Self {
            g: order.map(|c| self.g[c]),
            x_hat_g: order.map(|c| self.x_hat_g[c]),
        }
    }

    fn fields(self) -> Vec<[f64; 4]> {
        vec![self.g, self.x_hat_g]
    }

    fn of_fields(fields: &[[f64; 4]]) -> Self {
        Self {
            g: fields[0],
            x_hat_g: fields[1],
        }
    }
}
