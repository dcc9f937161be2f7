//! The oracle of group normalization: the papers' formulas, group by group in f64.
//!
//! A group is `C / groups` neighbouring channels of one sample; its statistics are those of all their spatial values.
//! Forward: Wu and He, *Group Normalization*, 2018, equations 1, 2, 6 and 7. Backward: the chain rule through variance
//! and mean, term by term as in Ioffe and Szegedy, *Batch Normalization*, 2015, section 3. Corner cases: torch's
//! `GroupNorm`.
//!
//! `x`, `dy` and the results `y` and `dx` are in the memory order of the shape; parameters have one value per channel.
//! A slice that is too short for the shape makes the functions panic, as do groups that do not divide the channels.
//!
//! The code shares nothing with the other oracles, so that each can test the others.

use crate::shape::{Layout, Shape};

/// The results of [`forward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The output, in memory order.
    pub y: Vec<f64>,
    /// The means, one per group: `N` rows of `groups` values.
    pub mean: Vec<f64>,
    /// The biased variances, one per group: `N` rows of `groups` values.
    pub var: Vec<f64>,
    /// `1 / sqrt(var + eps)`, one per group: `N` rows of `groups` values.
    pub inv_std: Vec<f64>,
}

/// The gradients of a loss, by [`backward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// With respect to the input, in memory order.
    pub dx: Vec<f64>,
    /// With respect to the weight, `C` values: sums over samples and spatial positions.
    pub dweight: Vec<f64>,
    /// With respect to the bias, `C` values: sums over samples and spatial positions.
    pub dbias: Vec<f64>,
}

/// Normalizes each group by its own statistics, then multiplies by the weight and adds the bias of each value's
/// channel. `weight` is 1 and `bias` 0 if absent. `inv_std` is 0 for a constant group without eps.
pub fn forward(
    shape: Shape,
    groups: usize,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
) -> Forward {
    let mut result = Forward {
        y: vec![0.0; x.len()],
        mean: vec![],
        var: vec![],
        inv_std: vec![],
    };
    for n in 0..shape.batch() {
        for g in 0..groups {
            let values = group(shape, groups, n, g);
            let (mean, var) = statistics(x, &values);
            let inv_std = inv_std(var, eps);
            for &Value { i, c } in &values {
                let x_hat = (x[i] - mean) * inv_std;
                result.y[i] = x_hat * weight.map_or(1.0, |w| w[c]) + bias.map_or(0.0, |b| b[c]);
            }
            result.mean.push(mean);
            result.var.push(var);
            result.inv_std.push(inv_std);
        }
    }
    result
}

/// The gradients of [`forward`], given the gradient `dy` with respect to its output. They do not depend on the bias.
pub fn backward(
    shape: Shape,
    groups: usize,
    x: &[f64],
    dy: &[f64],
    weight: Option<&[f64]>,
    eps: f64,
) -> Gradients {
    let mut result = Gradients {
        dx: vec![0.0; x.len()],
        dweight: vec![0.0; shape.channels()],
        dbias: vec![0.0; shape.channels()],
    };
    for n in 0..shape.batch() {
        for g in 0..groups {
            let values = group(shape, groups, n, g);
            let (mean, var) = statistics(x, &values);
            let inv_std = inv_std(var, eps);
            let count = values.len() as f64;

            let (mut dvar, mut dmean) = (0.0, 0.0);
            for &Value { i, c } in &values {
                let dx_hat = dy[i] * weight.map_or(1.0, |w| w[c]);
                dvar += dx_hat * (x[i] - mean) * -0.5 * inv_std.powi(3);
                dmean -= dx_hat * inv_std;
                result.dweight[c] += dy[i] * (x[i] - mean) * inv_std;
                result.dbias[c] += dy[i];
            }
            // The mean's path through the variance, dvar * sum(-2 (x - mean)) / count, is zero.
            for &Value { i, c } in &values {
                let dx_hat = dy[i] * weight.map_or(1.0, |w| w[c]);
                let through_var = dvar * 2.0 * (x[i] - mean) / count;
                result.dx[i] = dx_hat * inv_std + through_var + dmean / count;
            }
        }
    }
    result
}

fn inv_std(var: f64, eps: f64) -> f64 {
    match var + eps {
        0.0 => 0.0,
        sum => sum.sqrt().recip(),
    }
}

/// Mean and biased variance of a group.
fn statistics(x: &[f64], values: &[Value]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|value| x[value.i]).sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (x[value.i] - mean).powi(2)).sum();
    (mean, squares / count)
}

/// A value of a group: its index in memory order, and its channel.
struct Value {
    i: usize,
    c: usize,
}

/// The values of group `g` of sample `n`.
fn group(shape: Shape, groups: usize, n: usize, g: usize) -> Vec<Value> {
    let channels = shape.channels();
    assert_eq!(channels % groups, 0, "groups of equal numbers of channels");
    let size = channels / groups;
    let plane: usize = shape.spatial().iter().product();
    let mut values = vec![];
    for c in g * size..(g + 1) * size {
        for s in 0..plane {
            let i = match shape.layout() {
                Layout::ChannelsFirst => (n * channels + c) * plane + s,
                Layout::ChannelsLast => (n * plane + s) * channels + c,
            };
            values.push(Value { i, c });
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::slopes::{close, dot, slopes};
    use crate::reference::{batch_norm, instance_norm, noise};

    fn values(seed: u64, count: usize) -> Vec<f64> {
        noise(seed, count).collect()
    }

    /// Shapes with numbers of groups.
    const CASES: [(Shape, usize); 9] = [
        (Shape::nc(3, 6), 2),
        (Shape::ncl(2, 6, 3), 3),
        (Shape::nlc(2, 3, 6), 3),
        (Shape::nchw(2, 4, 3, 2), 2),
        (Shape::nhwc(3, 3, 2, 4), 2),
        (Shape::ncdhw(2, 3, 1, 2, 3), 1),
        (Shape::ndhwc(2, 1, 2, 3, 3), 1),
        (Shape::nhwc(1, 1, 3, 5), 5),
        (Shape::nchw(2, 10, 1, 1), 2),
    ];

    /// Worked by hand: the channels of a group share their statistics, and each has its own weight and bias.
    #[test]
    fn a_worked_example() {
        let shape = Shape::ncl(1, 4, 2);
        // Mean 2 and variance 1, and a constant group.
        let x = [1.0, 1.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0];
        let (weight, bias) = ([2.0, 4.0, 3.0, 1.0], [0.5, 0.0, -1.0, 7.0]);
        let result = forward(shape, 2, &x, Some(&weight), Some(&bias), 3.0);
        assert_eq!(
            (&result.mean[..], &result.var[..]),
            (&[2.0, 5.0][..], &[1.0, 0.0][..])
        );
        close(
            "inv_std",
            &result.inv_std,
            &[0.5, 3f64.sqrt().recip()],
            1e-15,
        );
        let y = [-0.5, -0.5, 2.0, 2.0, -1.0, -1.0, 7.0, 7.0];
        close("y", &result.y, &y, 1e-15);

        // x_hat is -1/2 in channel 0 and 1/2 in channel 1. With dx_hat = (2, 0, 4, 0) and inv_std = 1/2:
        // dvar = (2 * -1 + 4 * 1) * -1/2 * 1/8 = -1/8, dmean = -3, dx = dx_hat / 2 - 1/16 (x - 2) - 3/4.
        let dy = [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        let gradients = backward(shape, 2, &x, &dy, Some(&weight), 3.0);
        close("dbias", &gradients.dbias, &[1.0, 1.0, 0.0, 1.0], 1e-15);
        close("dweight", &gradients.dweight, &[-0.5, 0.5, 0.0, 0.0], 1e-15);
        let first = [0.3125, -0.6875, 1.1875, -0.8125];
        close("dx", &gradients.dx[..4], &first, 1e-15);
        let scale = 3f64.sqrt().recip();
        let second = [-0.25, -0.25, -0.25, 0.75].map(|v| v * scale);
        close("dx", &gradients.dx[4..], &second, 1e-15);
    }

    /// In either layout.
    #[test]
    fn groups_of_one_channel_are_instances() {
        for (shape, _) in CASES {
            let (len, c, eps) = (shape.elements().unwrap(), shape.channels(), 1e-3);
            let (x, dy) = (values(1, len), values(2, len));
            let (weight, bias) = (values(3, c), values(4, c));
            let (w, b) = (Some(&weight[..]), Some(&bias[..]));
            let actual = forward(shape, c, &x, w, b, eps);
            let expected = instance_norm::forward(shape, &x, w, b, eps);
            close("y", &actual.y, &expected.y, 1e-13);
            close("mean", &actual.mean, &expected.mean, 1e-15);
            close("var", &actual.var, &expected.var, 1e-15);
            close("inv_std", &actual.inv_std, &expected.inv_std, 1e-12);
            let actual = backward(shape, c, &x, &dy, w, eps);
            let expected = instance_norm::backward(shape, &x, &dy, w, eps);
            close("dx", &actual.dx, &expected.dx, 1e-12);
            close("dweight", &actual.dweight, &expected.dweight, 1e-12);
            close("dbias", &actual.dbias, &expected.dbias, 1e-13);
        }
    }

    /// Each group of channels first is one channel of a tensor with one sample.
    #[test]
    fn groups_are_the_channels_of_a_batch() {
        for (shape, groups) in CASES {
            if shape.layout() == Layout::ChannelsLast {
                continue;
            }
            let (len, rows) = (shape.elements().unwrap(), shape.batch() * groups);
            let (x, dy, eps) = (values(1, len), values(2, len), 1e-3);
            let batch = Shape::ncl(1, rows, len / rows);
            let actual = forward(shape, groups, &x, None, None, eps);
            let expected = batch_norm::train(batch, &x, None, None, eps);
            close("y", &actual.y, &expected.y, 1e-13);
            close("mean", &actual.mean, &expected.mean, 1e-15);
            close("var", &actual.var, &expected.var, 1e-15);
            let actual = backward(shape, groups, &x, &dy, None, eps);
            let expected = batch_norm::backward(batch, &x, &dy, None, eps);
            close("dx", &actual.dx, &expected.dx, 1e-12);
        }
    }

    #[test]
    fn a_tensor_has_the_same_groups_in_either_layout() {
        let (first, last) = (Shape::ncl(2, 6, 5), Shape::nlc(2, 5, 6));
        let (x, dy) = (values(1, 60), values(2, 60));
        let (weight, bias) = (values(3, 6), values(4, 6));
        let (w, b) = (Some(&weight[..]), Some(&bias[..]));
        let transposed = |from: &[f64]| -> Vec<f64> {
            let at = |i: usize| from[(i / 30) * 30 + i % 6 * 5 + i / 6 % 5];
            (0..60).map(at).collect()
        };
        let expected = forward(first, 2, &x, w, b, 1e-3);
        let actual = forward(last, 2, &transposed(&x), w, b, 1e-3);
        assert_eq!(actual.y, transposed(&expected.y));
        assert_eq!(actual.mean, expected.mean);
        let expected = backward(first, 2, &x, &dy, w, 1e-3);
        let actual = backward(last, 2, &transposed(&x), &transposed(&dy), w, 1e-3);
        assert_eq!(actual.dx, transposed(&expected.dx));
        assert_eq!(actual.dweight, expected.dweight);
    }

    #[test]
    fn gradients_are_slopes() {
        for (shape, groups) in CASES {
            let (len, c, eps) = (shape.elements().unwrap(), shape.channels(), 1e-2);
            let (x, dy) = (values(5, len), values(6, len));
            let (weight, bias) = (values(7, c), values(8, c));
            let loss = |x: &[f64], weight: Option<&[f64]>, bias: Option<&[f64]>| {
                dot(&forward(shape, groups, x, weight, bias, eps).y, &dy)
            };
            let (w, b) = (Some(&weight[..]), Some(&bias[..]));
            let gradients = backward(shape, groups, &x, &dy, w, eps);
            close("dx", &gradients.dx, &slopes(&x, |x| loss(x, w, b)), 1e-7);
            let expected = slopes(&weight, |weight| loss(&x, Some(weight), b));
            close("dweight", &gradients.dweight, &expected, 1e-7);
            let expected = slopes(&bias, |bias| loss(&x, w, Some(bias)));
            close("dbias", &gradients.dbias, &expected, 1e-7);

            let gradients = backward(shape, groups, &x, &dy, None, eps);
            let expected = slopes(&x, |x| loss(x, None, None));
            close("dx without weight", &gradients.dx, &expected, 1e-7);
        }
    }

    #[test]
    fn a_constant_group_becomes_its_biases_and_has_no_gradient_without_eps() {
        for shape in [
            Shape::nc(3, 2),
            Shape::nchw(1, 2, 1, 3),
            Shape::nhwc(1, 1, 3, 2),
        ] {
            let (x, bias) = (vec![7.0; 6], [0.25, -3.0]);
            let result = forward(shape, 1, &x, None, Some(&bias), 0.0);
            let expected: Vec<f64> = (0..6).map(|i| bias[shape.channel_of(i)]).collect();
            assert_eq!(result.y, expected);
            assert!(result.inv_std.iter().all(|&v| v == 0.0));
            let gradients = backward(shape, 1, &x, &values(9, 6), None, 0.0);
            assert_eq!(gradients.dx, [0.0; 6]);
            assert_eq!(gradients.dweight, [0.0; 2]);
        }
    }

    #[test]
    fn tensors_without_values() {
        for shape in [Shape::nchw(0, 2, 3, 3), Shape::nhwc(3, 0, 3, 2)] {
            assert!(forward(shape, 2, &[], None, None, 1e-5).y.is_empty());
            let gradients = backward(shape, 2, &[], &[], Some(&[1.0, 2.0]), 1e-5);
            assert!(gradients.dx.is_empty());
            assert_eq!(
                (gradients.dweight, gradients.dbias),
                (vec![0.0; 2], vec![0.0; 2])
            );
        }
    }

    #[test]
    #[should_panic(expected = "groups of equal numbers of channels")]
    fn groups_divide_the_channels() {
        forward(Shape::nc(1, 7), 2, &[0.0; 7], None, None, 1e-5);
    }
}
