//! The oracle of instance normalization: the papers' formulas, instance by instance in f64.
//!
//! An instance is one channel of one sample; its statistics are those of its `S` spatial values. Forward: Ulyanov,
//! Vedaldi and Lempitsky, *Instance Normalization*, 2016. Backward: the chain rule through variance and mean, term by
//! term as in Ioffe and Szegedy, *Batch Normalization*, 2015, section 3. Corner cases: torch's `InstanceNorm1d`, `2d`
//! and `3d` with `track_running_stats=False`; [`averages`] are what moves running statistics with it.
//!
//! `x`, `dy` and the results `y` and `dx` are in the memory order of the shape; parameters have one value per channel.
//! A slice that is too short for the shape makes the functions panic.
//!
//! The code shares nothing with [`batch_norm`](super::batch_norm), so that each oracle can test the other.

use super::Moments;
use crate::shape::{Layout, Shape};

/// The results of [`forward`].
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The output, in memory order.
    pub y: Vec<f64>,
    /// The means, one per instance: `N` rows of `C` values.
    pub mean: Vec<f64>,
    /// The biased variances, one per instance: `N` rows of `C` values.
    pub var: Vec<f64>,
    /// `1 / sqrt(var + eps)`, one per instance: `N` rows of `C` values.
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

/// Normalizes each instance by its own statistics, then multiplies by the weight and adds the bias of its channel.
/// `weight` is 1 and `bias` 0 if absent. `inv_std` is 0 for a constant instance without eps.
pub fn forward(
    shape: Shape,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
) -> Forward {
    let mut result = Forward {
        y: vec![0.0; x.len()],
        mean: Vec::new(),
        var: Vec::new(),
        inv_std: Vec::new(),
    };
    for n in 0..shape.batch() {
        for c in 0..shape.channels() {
            let (mean, var) = statistics(shape, x, n, c);
            let inv_std = match var + eps {
                0.0 => 0.0,
                sum => sum.sqrt().recip(),
            };
            for i in instance(shape, n, c) {
                let mut y = (x[i] - mean) * inv_std;
                if let Some(weight) = weight {
                    y *= weight[c];
                }
                if let Some(bias) = bias {
                    y += bias[c];
                }
                result.y[i] = y;
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
        for c in 0..shape.channels() {
            let (mean, var) = statistics(shape, x, n, c);
            let inv_std = match var + eps {
                0.0 => 0.0,
                sum => sum.sqrt().recip(),
            };
            let weight = weight.map_or(1.0, |weight| weight[c]);
            let count = instance(shape, n, c).count() as f64;

            let (mut dvar, mut dmean) = (0.0, 0.0);
            for i in instance(shape, n, c) {
                let dx_hat = dy[i] * weight;
                dvar += dx_hat * (x[i] - mean) * -0.5 * inv_std.powi(3);
                dmean += dx_hat * -inv_std;
                result.dweight[c] += dy[i] * (x[i] - mean) * inv_std;
                result.dbias[c] += dy[i];
            }
            // The mean's path through the variance, dvar * sum(-2 (x - mean)) / count, is zero.
            for i in instance(shape, n, c) {
                let dx_hat = dy[i] * weight;
                result.dx[i] =
                    dx_hat * inv_std + dvar * 2.0 * (x[i] - mean) / count + dmean / count;
            }
        }
    }
    result
}

/// The moments of each instance: `N` rows of `C`.
pub fn moments(shape: Shape, x: &[f64]) -> Vec<Moments> {
    let instances = (0..shape.batch()).flat_map(|n| (0..shape.channels()).map(move |c| (n, c)));
    let of = |(n, c)| Moments::of(instance(shape, n, c).map(|i| x[i]));
    instances.map(of).collect()
}

/// What moves running statistics in torch with `track_running_stats=True`: for each channel the averages over samples of the
/// means, and of the sums of squared deviations of instances, with the values of one instance as count. Empty without samples.
pub fn averages(shape: Shape, x: &[f64]) -> Vec<Moments> {
    let moments = moments(shape, x);
    let average = |c: usize, value: fn(&Moments) -> f64| {
        let samples = moments.iter().skip(c).step_by(shape.channels());
        samples.map(value).sum::<f64>() / shape.batch() as f64
    };
    let of = |c| Moments {
        mean: average(c, |m| m.mean),
        m2: average(c, |m| m.m2),
        count: average(c, |m| m.count),
    };
    let channels = if moments.is_empty() {
        0
    } else {
        shape.channels()
    };
    (0..channels).map(of).collect()
}

/// Mean and biased variance of an instance.
fn statistics(shape: Shape, x: &[f64], n: usize, c: usize) -> (f64, f64) {
    let (mut sum, mut squares, mut count) = (0.0, 0.0, 0.0);
    for i in instance(shape, n, c) {
        sum += x[i];
        count += 1.0;
    }
    let mean = sum / count;
    for i in instance(shape, n, c) {
        squares += (x[i] - mean) * (x[i] - mean);
    }
    (mean, squares / count)
}

/// The indices of the values of channel `c` of sample `n`, in memory order.
fn instance(shape: Shape, n: usize, c: usize) -> impl Iterator<Item = usize> {
    let values: usize = shape.spatial().iter().product();
    let channels = shape.channels();
    (0..values).map(move |s| match shape.layout() {
        Layout::ChannelsFirst => (n * channels + c) * values + s,
        Layout::ChannelsLast => (n * values + s) * channels + c,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::slopes::{close, dot, slopes};
    use crate::reference::{batch_norm, noise};

    fn values(seed: u64, count: usize) -> Vec<f64> {
        noise(seed, count).collect()
    }

    const SHAPES: [Shape; 8] = [
        Shape::ncl(2, 3, 4),
        Shape::nlc(2, 4, 3),
        Shape::nchw(2, 2, 3, 2),
        Shape::nhwc(3, 3, 2, 2),
        Shape::ncdhw(2, 2, 1, 2, 3),
        Shape::ndhwc(2, 1, 2, 3, 2),
        Shape::ncl(1, 1, 7),
        Shape::nlc(4, 2, 1),
    ];

    /// Worked by hand: values -1 and 1 from mean 2 with variance 1, and a constant instance.
    #[test]
    fn a_worked_example() {
        let shape = Shape::ncl(1, 2, 2);
        let x = [1.0, 3.0, 5.0, 5.0];
        let result = forward(shape, &x, Some(&[2.0, 3.0]), Some(&[0.5, -1.0]), 3.0);
        assert_eq!(result.mean, [2.0, 5.0]);
        assert_eq!(result.var, [1.0, 0.0]);
        close(
            "inv_std",
            &result.inv_std,
            &[0.5, 3f64.sqrt().recip()],
            1e-15,
        );
        close("y", &result.y, &[-0.5, 1.5, -1.0, -1.0], 1e-15);

        // Channel 0: x_hat is -1/2 and 1/2, so dbias = 1 + 0 and dweight = -1/2. With dx_hat = (2, 0) and
        // inv_std = 1/2: dvar = 2 * -1 * -1/2 * 1/8 = 1/8, dmean = -1, dx = (1, 0) + 1/8 * (-1, 1) - 1/2.
        let gradients = backward(shape, &x, &[1.0, 0.0, 1.0, 2.0], Some(&[2.0, 3.0]), 3.0);
        close("dbias", &gradients.dbias, &[1.0, 3.0], 1e-15);
        close("dweight", &gradients.dweight, &[-0.5, 0.0], 1e-15);
        let scale = 3.0 / 3f64.sqrt();
        let dx = [0.375, -0.375, -0.5 * scale, 0.5 * scale];
        close("dx", &gradients.dx, &dx, 1e-15);
    }

    /// The instances of a tensor are the channels of a tensor with one sample.
    #[test]
    fn instance_norm_is_batch_norm_over_the_channels_of_all_samples() {
        for shape in SHAPES {
            let (n, c) = (shape.batch(), shape.channels());
            let (len, eps) = (shape.elements().unwrap(), 1e-3);
            let (x, dy) = (values(1, len), values(2, len));
            let (weight, bias) = (values(3, c), values(4, c));
            // Where each value is in the order (N·C, S).
            let mut place = vec![0; len];
            let mut filled = vec![0; n * c];
            for (i, place) in place.iter_mut().enumerate() {
                let row = shape.sample_of(i) * c + shape.channel_of(i);
                *place = row * (len / (n * c)) + filled[row];
                filled[row] += 1;
            }
            let moved = |from: &[f64]| {
                let mut to = vec![0.0; len];
                (0..len).for_each(|i| to[place[i]] = from[i]);
                to
            };
            let one = Shape::ncl(1, n * c, len / (n * c));
            let (weights, biases) = (weight.repeat(n), bias.repeat(n));

            let actual = forward(shape, &x, Some(&weight), Some(&bias), eps);
            let expected = batch_norm::train(one, &moved(&x), Some(&weights), Some(&biases), eps);
            close("y", &moved(&actual.y), &expected.y, 1e-13);
            close("mean", &actual.mean, &expected.mean, 1e-15);
            close("var", &actual.var, &expected.var, 1e-15);
            close("inv_std", &actual.inv_std, &expected.inv_std, 1e-12);

            let actual = backward(shape, &x, &dy, Some(&weight), eps);
            let expected = batch_norm::backward(one, &moved(&x), &moved(&dy), Some(&weights), eps);
            close("dx", &moved(&actual.dx), &expected.dx, 1e-12);
            let summed = |rows: &[f64]| -> Vec<f64> {
                let of = |c: usize| rows.iter().skip(c).step_by(weight.len()).sum();
                (0..c).map(of).collect()
            };
            close(
                "dweight",
                &actual.dweight,
                &summed(&expected.dweight),
                1e-12,
            );
            close("dbias", &actual.dbias, &summed(&expected.dbias), 1e-13);
        }
    }

    #[test]
    fn gradients_are_slopes() {
        for shape in SHAPES {
            let (len, c, eps) = (shape.elements().unwrap(), shape.channels(), 1e-2);
            let (x, dy) = (values(5, len), values(6, len));
            let (weight, bias) = (values(7, c), values(8, c));
            let loss = |x: &[f64], weight: Option<&[f64]>, bias: Option<&[f64]>| {
                dot(&forward(shape, x, weight, bias, eps).y, &dy)
            };
            let (w, b) = (Some(&weight[..]), Some(&bias[..]));
            let gradients = backward(shape, &x, &dy, w, eps);
            close("dx", &gradients.dx, &slopes(&x, |x| loss(x, w, b)), 1e-7);
            let expected = slopes(&weight, |weight| loss(&x, Some(weight), b));
            close("dweight", &gradients.dweight, &expected, 1e-7);
            let expected = slopes(&bias, |bias| loss(&x, w, Some(bias)));
            close("dbias", &gradients.dbias, &expected, 1e-7);

            let gradients = backward(shape, &x, &dy, None, eps);
            let expected = slopes(&x, |x| loss(x, None, None));
            close("dx without weight", &gradients.dx, &expected, 1e-7);
        }
    }

    #[test]
    fn a_constant_instance_becomes_its_bias_and_has_no_gradient_without_eps() {
        for shape in [
            Shape::nchw(2, 1, 1, 3),
            Shape::nc(3, 2),
            Shape::nhwc(2, 1, 1, 3),
        ] {
            let (x, bias) = (vec![7.0; 6], vec![0.25; shape.channels()]);
            let result = forward(shape, &x, None, Some(&bias), 0.0);
            assert_eq!(result.y, [0.25; 6]);
            assert!(result.inv_std.iter().all(|&v| v == 0.0));
            let gradients = backward(shape, &x, &values(9, 6), None, 0.0);
            assert_eq!(gradients.dx, [0.0; 6]);
            assert!(gradients.dweight.iter().all(|&v| v == 0.0));
        }
    }

    #[test]
    fn tensors_without_values() {
        for shape in [Shape::nchw(0, 2, 3, 3), Shape::nhwc(3, 0, 3, 2)] {
            assert!(forward(shape, &[], None, None, 1e-5).y.is_empty());
            let gradients = backward(shape, &[], &[], Some(&[1.0, 2.0]), 1e-5);
            assert_eq!(
                (gradients.dweight, gradients.dbias),
                (vec![0.0; 2], vec![0.0; 2])
            );
        }
    }
}
