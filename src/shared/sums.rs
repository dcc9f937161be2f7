//! The twin of `sums.wgsl`.

use super::block_reduce::Partial;

/// `Partial` of `sums.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct Sums4 {
    pub dy: [f64; 4],
    pub x_hat_dy: [f64; 4],
}

impl Partial for Sums4 {
    const FIELDS: usize = 2;

    fn identity() -> Self {
        Self::of_fields(&[[0.0; 4]; 2])
    }

    fn combine(self, other: Self) -> Self {
        let add = |a: [f64; 4], b: [f64; 4]| std::array::from_fn(|c| a[c] + b[c]);
        Self {
            dy: add(self.dy, other.dy),
            x_hat_dy: add(self.x_hat_dy, other.x_hat_dy),
        }
    }

    fn swizzle(self, order: [usize; 4]) -> Self {
        Self {
            dy: order.map(|c| self.dy[c]),
            x_hat_dy: order.map(|c| self.x_hat_dy[c]),
        }
    }

    fn fields(self) -> Vec<[f64; 4]> {
        vec![self.dy, self.x_hat_dy]
    }

    fn of_fields(fields: &[[f64; 4]]) -> Self {
        Self {
            dy: fields[0],
            x_hat_dy: fields[1],
        }
    }
}
