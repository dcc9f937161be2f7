//! The oracle of layer normalization: the paper's formulas, row by row in f64.
//!
//! A row is `size` neighbouring values; its statistics are its own. Forward: Ba, Kiros and Hinton, *Layer
//! Normalization*, 2016, equations 3 and 4, with eps under the root as in torch's `LayerNorm`. Backward: the
//! derivatives of these equations, through the Jacobian of the normalized row.
//!
//! Parameters have `size` values. The functions panic for a size of zero, values that are not whole rows, and
//! parameters that are too short.
//!
//! The code shares nothing with the other oracles, so that each can test the others.

/// The results of [`forward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The output.
    pub y: Vec<f64>,
    /// The means, one per row.
    pub mean: Vec<f64>,
    /// The biased variances, one per row.
    pub var: Vec<f64>,
    /// `1 / sqrt(var + eps)`, one per row.
    pub inv_std: Vec<f64>,
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

/// Normalizes each row by its own statistics, then multiplies by the weight and adds the bias, value by value.
/// `weight` is 1 and `bias` 0 if absent. `inv_std` is 0 for a constant row without eps.
pub fn forward(
    size: usize,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
) -> Forward {
    let mut result = Forward {
        y: vec![],
        mean: vec![],
        var: vec![],
        inv_std: vec![],
    };
    for row in rows(size, x) {
        let (mean, var, inv_std) = statistics(row, eps);
        for (i, x) in row.iter().enumerate() {
            let mut y = (x - mean) * inv_std;
            if let Some(weight) = weight {
                y *= weight[i];
            }
            if let Some(bias) = bias {
                y += bias[i];
            }
            result.y.push(y);
        }
        result.mean.push(mean);
        result.var.push(var);
        result.inv_std.push(inv_std);
    }
    result
}

/// The gradients of [`forward`], given the gradient `dy` with respect to its output. They do not depend on the bias.
///
/// The normalized value `x_hat_j` has the derivative `inv_std * ((i == j) - 1/size - x_hat_i * x_hat_j / size)` with
/// respect to `x_i`. The gradient of `x_i` is the sum of these over the row, each times the gradient of `x_hat_j`.
pub fn backward(size: usize, x: &[f64], dy: &[f64], weight: Option<&[f64]>, eps: f64) -> Gradients {
    let mut result = Gradients {
        dx: vec![],
        dweight: vec![0.0; size],
        dbias: vec![0.0; size],
    };
    let count = size as f64;
    for (row, dy) in rows(size, x).zip(rows(size, dy)) {
        let (mean, _, inv_std) = statistics(row, eps);
        let x_hat: Vec<f64> = row.iter().map(|x| (x - mean) * inv_std).collect();
        let (mut sum, mut projection) = (0.0, 0.0);
        let mut dx_hat = dy.to_vec();
        for j in 0..size {
            if let Some(weight) = weight {
                dx_hat[j] *= weight[j];
            }
            sum += dx_hat[j];
            projection += dx_hat[j] * x_hat[j];
            result.dweight[j] += dy[j] * x_hat[j];
            result.dbias[j] += dy[j];
        }
        for i in 0..size {
            let dx = dx_hat[i] - sum / count - x_hat[i] * projection / count;
            result.dx.push(inv_std * dx);
        }
    }
    result
}

fn rows(size: usize, values: &[f64]) -> impl Iterator<Item = &[f64]> {
    let rows = values.chunks_exact(size);
    assert!(rows.remainder().is_empty(), "whole rows");
    rows
}

/// Mean, biased variance, and `1 / sqrt(var + eps)` of a row.
fn statistics(row: &[f64], eps: f64) -> (f64, f64, f64) {
    let count = row.len() as f64;
    let mean = row.iter().sum::<f64>() / count;
    let var = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
    let inv_std = match var + eps {
        0.0 => 0.0,
        sum => 1.0 / sum.sqrt(),
    };
    (mean, var, inv_std)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::slopes::{close, dot, slopes};
    use crate::reference::{batch_norm, noise};
    use crate::shape::Shape;

    fn values(seed: u64, count: usize) -> Vec<f64> {
        noise(seed, count).collect()
    }

    /// Rows, and their size.
    const CASES: [(usize, usize); 6] = [(1, 1), (1, 7), (4, 3), (5, 8), (9, 2), (3, 1)];

    /// Worked by hand: values -1 and 1 from mean 2 with variance 1, and a constant row.
    #[test]
    fn a_worked_example() {
        let (x, weight, bias) = ([1.0, 3.0, 5.0, 5.0], [2.0, 4.0], [0.5, -1.0]);
        let result = forward(2, &x, Some(&weight), Some(&bias), 3.0);
        assert_eq!(result.mean, [2.0, 5.0]);
        assert_eq!(result.var, [1.0, 0.0]);
        let other = 3f64.sqrt().recip();
        close("inv_std", &result.inv_std, &[0.5, other], 1e-15);
        close("y", &result.y, &[-0.5, 1.0, 0.5, -1.0], 1e-15);

        // x_hat is -1/2 and 1/2 in the first row, 0 in the second. With dx_hat = (2, 0): sum 2, projection -1,
        // dx = 1/2 * ((2, 0) - 1 - (1/4, -1/4)).
        let gradients = backward(2, &x, &[1.0, 0.0, 1.0, 2.0], Some(&weight), 3.0);
        close("dbias", &gradients.dbias, &[2.0, 2.0], 1e-15);
        close("dweight", &gradients.dweight, &[-0.5, 0.0], 1e-15);
        let dx = [0.375, -0.375, -3.0 * other, 3.0 * other];
        close("dx", &gradients.dx, &dx, 1e-15);
    }

    /// The rows are the channels of a tensor with one sample.
    #[test]
    fn layer_norm_is_batch_norm_over_the_rows() {
        for (count, size) in CASES {
            let (x, dy) = (values(1, count * size), values(2, count * size));
            let (shape, eps) = (Shape::ncl(1, count, size), 1e-3);
            let actual = forward(size, &x, None, None, eps);
            let expected = batch_norm::train(shape, &x, None, None, eps);
            close("y", &actual.y, &expected.y, 1e-13);
            close("mean", &actual.mean, &expected.mean, 1e-15);
            close("var", &actual.var, &expected.var, 1e-15);
            close("inv_std", &actual.inv_std, &expected.inv_std, 1e-12);
            let actual = backward(size, &x, &dy, None, eps);
            let expected = batch_norm::backward(shape, &x, &dy, None, eps);
            close("dx", &actual.dx, &expected.dx, 1e-12);
        }
    }

    /// Section 5.1 of the paper: a row does not change with its values' scale and offset.
    #[test]
    fn scale_and_offset_of_a_row_have_no_effect() {
        let x = values(3, 24);
        let moved: Vec<f64> = x.iter().map(|x| 3.0 * x - 5.0).collect();
        let y = |x: &[f64]| forward(8, x, None, None, 0.0).y;
        close("y", &y(&moved), &y(&x), 1e-13);
    }

    #[test]
    fn gradients_are_slopes() {
        for (count, size) in CASES {
            let (x, dy) = (values(5, count * size), values(6, count * size));
            let (weight, bias, eps) = (values(7, size), values(8, size), 1e-2);
            let loss = |x: &[f64], weight: Option<&[f64]>, bias: Option<&[f64]>| {
                dot(&forward(size, x, weight, bias, eps).y, &dy)
            };
            let (w, b) = (Some(&weight[..]), Some(&bias[..]));
            let gradients = backward(size, &x, &dy, w, eps);
            close("dx", &gradients.dx, &slopes(&x, |x| loss(x, w, b)), 1e-7);
            let expected = slopes(&weight, |weight| loss(&x, Some(weight), b));
            close("dweight", &gradients.dweight, &expected, 1e-7);
            let expected = slopes(&bias, |bias| loss(&x, w, Some(bias)));
            close("dbias", &gradients.dbias, &expected, 1e-7);

            let gradients = backward(size, &x, &dy, None, eps);
            let expected = slopes(&x, |x| loss(x, None, None));
            close("dx without weight", &gradients.dx, &expected, 1e-7);
        }
    }

    #[test]
    fn a_constant_row_becomes_the_bias_and_has_no_gradient_without_eps() {
        for size in [1, 3] {
            let (x, bias) = (vec![7.0; 6], values(4, size));
            let result = forward(size, &x, None, Some(&bias), 0.0);
            assert_eq!(result.y, bias.repeat(6 / size));
            assert!(result.inv_std.iter().all(|&v| v == 0.0));
            let gradients = backward(size, &x, &values(9, 6), None, 0.0);
            assert_eq!(gradients.dx, [0.0; 6]);
            assert!(gradients.dweight.iter().all(|&v| v == 0.0));
        }
    }

    #[test]
    fn no_rows() {
        assert!(forward(3, &[], None, None, 1e-5).y.is_empty());
        let gradients = backward(2, &[], &[], Some(&[1.0, 2.0]), 1e-5);
        assert!(gradients.dx.is_empty());
        assert_eq!(
            (gradients.dweight, gradients.dbias),
            (vec![0.0; 2], vec![0.0; 2])
        );
    }

    #[test]
    #[should_panic(expected = "whole rows")]
    fn rows_are_whole() {
        forward(3, &[0.0; 7], None, None, 1e-5);
    }
}
