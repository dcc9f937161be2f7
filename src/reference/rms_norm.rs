//! The oracle of root mean square normalization: the paper's formulas, row by row in f64.
//!
//! A row is `size` neighbouring values. Forward: Zhang and Sennrich, *Root Mean Square Layer Normalization*, 2019,
//! equation 4, with eps under the root as in torch's `RMSNorm`. Backward: the chain rule through the mean square.
//!
//! Weight and bias have `size` values each. The weight is what multiplies: a layer that stores the weight minus one adds the
//! one before. The functions panic for a size of zero, values that are not whole rows, and parameters that are too short.
//!
//! The code shares nothing with the other oracles, so that each can test the others.

/// The results of [`forward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The output.
    pub y: Vec<f64>,
    /// The means of the squares, one per row.
    pub mean_square: Vec<f64>,
    /// `1 / sqrt(mean_square + eps)`, one per row.
    pub inv_rms: Vec<f64>,
}

/// The gradients of a loss, by [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// With respect to the input.
    pub dx: Vec<f64>,
    /// With respect to the weight, `size` values: sums over rows.
    pub dweight: Vec<f64>,
    /// With respect to the bias, `size` values: sums over rows.
    pub dbias: Vec<f64>,
}

/// Divides each row by its root mean square, multiplies by the weight, which is 1 if absent, and adds the bias, if there is
/// one. `inv_rms` is 0 for a row of zeros without eps.
pub fn forward(
    size: usize,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
) -> Forward {
    forward_rounded(size, x, weight, bias, eps, |x_hat| x_hat)
}

/// The same as models after Llama compute it: each value is `rounded` before the weight multiplies it.
pub fn forward_rounded(
    size: usize,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
    rounded: impl Fn(f64) -> f64,
) -> Forward {
    let mut result = Forward {
        y: vec![0.0; x.len()],
        mean_square: vec![],
        inv_rms: vec![],
    };
    for begin in row_begins(size, x) {
        let (mean_square, inv_rms) = statistics(&x[begin..begin + size], eps);
        for j in 0..size {
            let scaled = rounded(x[begin + j] * inv_rms) * weight.map_or(1.0, |w| w[j]);
            result.y[begin + j] = scaled + bias.map_or(0.0, |b| b[j]);
        }
        result.mean_square.push(mean_square);
        result.inv_rms.push(inv_rms);
    }
    result
}

/// The gradients of [`forward`], given the gradient `dy` with respect to its output.
pub fn backward(size: usize, x: &[f64], dy: &[f64], weight: Option<&[f64]>, eps: f64) -> Gradients {
    backward_rounded(size, x, dy, weight, eps, |x_hat| x_hat)
}

/// The gradients of [`forward_rounded`], where rounding has the slope 1.
pub fn backward_rounded(
    size: usize,
    x: &[f64],
    dy: &[f64],
    weight: Option<&[f64]>,
    eps: f64,
    rounded: impl Fn(f64) -> f64,
) -> Gradients {
    let mut result = Gradients {
        dx: vec![0.0; x.len()],
        dweight: vec![0.0; size],
        dbias: vec![0.0; size],
    };
    for begin in row_begins(size, x) {
        let (_, inv_rms) = statistics(&x[begin..begin + size], eps);
        let mut dinv_rms = 0.0;
        for j in 0..size {
            let i = begin + j;
            dinv_rms += dy[i] * weight.map_or(1.0, |w| w[j]) * x[i];
            result.dweight[j] += dy[i] * rounded(x[i] * inv_rms);
            result.dbias[j] += dy[i];
        }
        let dmean_square = dinv_rms * -0.5 * inv_rms.powi(3);
        for j in 0..size {
            let i = begin + j;
            let direct = dy[i] * weight.map_or(1.0, |w| w[j]) * inv_rms;
            result.dx[i] = direct + dmean_square * 2.0 * x[i] / size as f64;
        }
    }
    result
}

/// Where each row begins.
fn row_begins(size: usize, x: &[f64]) -> impl Iterator<Item = usize> {
    assert_eq!(x.len() % size, 0, "whole rows");
    (0..x.len()).step_by(size)
}

/// Mean square of a row, and `1 / sqrt(mean_square + eps)`.
fn statistics(row: &[f64], eps: f64) -> (f64, f64) {
    let mut squares = 0.0;
    for x in row {
        squares += x * x;
    }
    let mean_square = squares / row.len() as f64;
    match mean_square + eps {
        0.0 => (mean_square, 0.0),
        sum => (mean_square, sum.sqrt().recip()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::slopes::{close, dot, slopes};
    use crate::reference::{layer_norm, noise};

    fn values(seed: u64, count: usize) -> Vec<f64> {
        noise(seed, count).collect()
    }

    /// Rows, and their size.
    const CASES: [(usize, usize); 6] = [(1, 1), (1, 7), (4, 3), (5, 8), (9, 2), (3, 1)];

    /// Worked by hand: values 1 and 7 with mean square 25, and a row of zeros.
    #[test]
    fn a_worked_example() {
        let (x, weight) = ([1.0, 7.0, 0.0, 0.0], [2.0, 3.0]);
        let result = forward(2, &x, Some(&weight), None, 75.0);
        assert_eq!(result.mean_square, [25.0, 0.0]);
        let other = 75f64.sqrt().recip();
        close("inv_rms", &result.inv_rms, &[0.1, other], 1e-15);
        close("y", &result.y, &[0.2, 2.1, 0.0, 0.0], 1e-15);

        // With dx_hat = (2, 0) and inv_rms = 1/10: dinv_rms = 2, dmean_square = -1/1000, and dx = (1/5, 0) - x / 1000.
        let gradients = backward(2, &x, &[1.0, 0.0, 1.0, 2.0], Some(&weight), 75.0);
        close("dweight", &gradients.dweight, &[0.1, 0.0], 1e-15);
        close("dbias", &gradients.dbias, &[2.0, 2.0], 1e-15);
        let dx = [0.199, -0.007, 2.0 * other, 6.0 * other];
        close("dx", &gradients.dx, &dx, 1e-15);
    }

    /// Worked by hand: normalized values 0.1 and 0.7, to whole numbers.
    #[test]
    fn values_are_rounded_before_the_weight() {
        let (x, weight) = ([1.0, 7.0], [2.0, 3.0]);
        let result = forward_rounded(2, &x, Some(&weight), None, 75.0, f64::round);
        assert_eq!(result.y, [0.0, 3.0]);
        let of = |rounded: fn(f64) -> f64| {
            backward_rounded(2, &x, &[1.0, 2.0], Some(&weight), 75.0, rounded)
        };
        assert_eq!(of(f64::round).dweight, [0.0, 2.0]);
        assert_eq!(of(f64::round).dx, of(|x_hat| x_hat).dx);
    }

    /// A row and its negative have mean zero together, and the mean square of each.
    #[test]
    fn rows_of_mean_zero_are_normalized_as_by_layer_norm() {
        for (count, size) in CASES {
            let eps = 1e-3;
            let mirrored = |values: &[f64], sign: f64| -> Vec<f64> {
                let both = |row: &[f64]| [row.to_vec(), row.iter().map(|v| sign * v).collect()];
                values.chunks(size).flat_map(both).flatten().collect()
            };
            let x = mirrored(&values(1, count * size), -1.0);
            let actual = forward(2 * size, &x, None, None, eps);
            let expected = layer_norm::forward(2 * size, &x, None, None, eps);
            close("y", &actual.y, &expected.y, 1e-13);
            close("mean_square", &actual.mean_square, &expected.var, 1e-15);
            close("inv_rms", &actual.inv_rms, &expected.inv_std, 1e-12);
            // With an incoming gradient of mean zero, nothing goes through the mean.
            let dy = mirrored(&values(2, count * size), -1.0);
            let weight = mirrored(&values(3, size), 1.0);
            let actual = backward(2 * size, &x, &dy, Some(&weight), eps);
            let expected = layer_norm::backward(2 * size, &x, &dy, Some(&weight), eps);
            close("dx", &actual.dx, &expected.dx, 1e-12);
            close("dweight", &actual.dweight, &expected.dweight, 1e-12);
        }
    }

    /// Section 4 of the paper: a row does not change with its values' scale, and does with their offset.
    #[test]
    fn the_scale_of_a_row_has_no_effect() {
        let x = values(3, 24);
        let y = |x: &[f64]| forward(8, x, None, None, 0.0).y;
        let moved = |scale: f64, offset: f64| -> Vec<f64> {
            x.iter().map(|x| scale * x + offset).collect()
        };
        close("y", &y(&moved(3.0, 0.0)), &y(&x), 1e-13);
        let (offset, plain) = (y(&moved(1.0, 5.0)), y(&x));
        assert!(offset.iter().zip(&plain).all(|(a, b)| (a - b).abs() > 1e-3));
    }

    #[test]
    fn gradients_are_slopes() {
        for (count, size) in CASES {
            let (x, dy) = (values(5, count * size), values(6, count * size));
            let (weight, bias, eps) = (values(7, size), values(8, size), 1e-2);
            let with_bias = |x: &[f64], weight: Option<&[f64]>, bias: &[f64]| {
                dot(&forward(size, x, weight, Some(bias), eps).y, &dy)
            };
            let loss = |x: &[f64], weight: Option<&[f64]>| with_bias(x, weight, &bias);
            let w = Some(&weight[..]);
            let gradients = backward(size, &x, &dy, w, eps);
            close("dx", &gradients.dx, &slopes(&x, |x| loss(x, w)), 1e-7);
            let expected = slopes(&weight, |weight| loss(&x, Some(weight)));
            close("dweight", &gradients.dweight, &expected, 1e-7);
            let expected = slopes(&bias, |bias| with_bias(&x, w, bias));
            close("dbias", &gradients.dbias, &expected, 1e-7);

            let gradients = backward(size, &x, &dy, None, eps);
            let expected = slopes(&x, |x| loss(x, None));
            close("dx without weight", &gradients.dx, &expected, 1e-7);
        }
    }

    #[test]
    fn a_row_of_zeros_stays_zero_and_has_no_gradient_without_eps() {
        let result = forward(3, &[0.0; 6], None, None, 0.0);
        assert_eq!(result.y, [0.0; 6]);
        assert_eq!(result.inv_rms, [0.0; 2]);
        let gradients = backward(3, &[0.0; 6], &values(9, 6), None, 0.0);
        assert_eq!(gradients.dx, [0.0; 6]);
        assert_eq!(gradients.dweight, [0.0; 3]);
    }

    #[test]
    fn no_rows() {
        assert!(forward(3, &[], None, None, 1e-5).y.is_empty());
        let gradients = backward(2, &[], &[], Some(&[1.0, 2.0]), 1e-5);
        assert!(gradients.dx.is_empty());
        assert_eq!(gradients.dweight, [0.0; 2]);
    }

    #[test]
    #[should_panic(expected = "whole rows")]
    fn rows_are_whole() {
        forward(3, &[0.0; 7], None, None, 1e-5);
    }
}
