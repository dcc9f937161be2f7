//! The oracle of batch normalization: the papers' formulas, channel by channel in f64.
//!
//! Forward and backward: Ioffe and Szegedy, *Batch Normalization*, 2015, section 3. Running statistics and
//! corner cases: torch's `BatchNorm1d`, `2d` and `3d`.
//!
//! `x`, `dy` and the results `y` and `dx` are in the memory order of the shape; statistics and parameters have one
//! value per channel. A slice that is too short for the shape makes the functions panic.

use crate::shape::Shape;

/// The results of [`train`].
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The output, in memory order.
    pub y: Vec<f64>,
    /// The means, one per channel.
    pub mean: Vec<f64>,
    /// The biased variances, one per channel.
    pub var: Vec<f64>,
    /// `1 / sqrt(var + eps)`, one per channel.
    pub inv_std: Vec<f64>,
}

/// The gradients of a loss, by [`backward`] or [`backward_frozen`].
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// With respect to the input, in memory order.
    pub dx: Vec<f64>,
    /// With respect to the weight, one per channel.
    pub dweight: Vec<f64>,
    /// With respect to the bias, one per channel.
    pub dbias: Vec<f64>,
}

/// Running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Averages of batch means, one per channel.
    pub mean: Vec<f64>,
    /// Averages of unbiased batch variances, one per channel.
    pub var: Vec<f64>,
    /// The number of batches averaged.
    pub num_batches_tracked: u64,
}

impl Running {
    /// The statistics of a new layer: mean 0, variance 1, no batches.
    pub fn new(num_features: usize) -> Self {
        Self {
            mean: vec![0.0; num_features],
            var: vec![1.0; num_features],
            num_batches_tracked: 0,
        }
    }

    /// Averages the statistics of a batch into these: `(1 - momentum) * old + momentum * new`. A `momentum` of `None` is
    /// 1 / (number of batches including this one), which gives the mean of all batches. A batch with zero
    /// `values_per_channel` changes nothing.
    pub fn update(&mut self, batch: &Forward, values_per_channel: u64, momentum: Option<f64>) {
        if values_per_channel == 0 {
            return;
        }
        let n = values_per_channel as f64;
        let unbiased: Vec<_> = batch.var.iter().map(|var| var * n / (n - 1.0)).collect();
        self.average(&batch.mean, &unbiased, momentum);
    }

    /// Averages a mean and a variance of each channel into these, as [`update`](Self::update) does with unbiased variances.
    pub fn average(&mut self, mean: &[f64], var: &[f64], momentum: Option<f64>) {
        self.num_batches_tracked += 1;
        let momentum = momentum.unwrap_or(1.0 / self.num_batches_tracked as f64);
        for (old, new) in [(&mut self.mean, mean), (&mut self.var, var)] {
            for (old, new) in old.iter_mut().zip(new) {
                *old = (1.0 - momentum) * *old + momentum * new;
            }
        }
    }
}

/// The indices of each channel's values.
fn channels(shape: Shape, len: usize) -> Vec<Vec<usize>> {
    let mut indices = vec![Vec::new(); shape.channels()];
    for i in 0..len {
        indices[shape.channel_of(i)].push(i);
    }
    indices
}

/// `1 / sqrt(var + eps)`, or 0 for a constant channel without eps.
fn inv_std(var: f64, eps: f64) -> f64 {
    if var + eps == 0.0 {
        0.0
    } else {
        1.0 / (var + eps).sqrt()
    }
}

/// A parameter of channel `c`, or `default` for a layer without it.
fn parameter(values: Option<&[f64]>, c: usize, default: f64) -> f64 {
    values.map_or(default, |values| values[c])
}

/// Forward with the batch's own statistics.
pub fn train(
    shape: Shape,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
) -> Forward {
    let mut forward = Forward {
        y: x.to_vec(),
        mean: vec![],
        var: vec![],
        inv_std: vec![],
    };
    for (c, values) in channels(shape, x.len()).into_iter().enumerate() {
        let n = values.len() as f64;
        let mean = values.iter().map(|&i| x[i]).sum::<f64>() / n;
        let var = values.iter().map(|&i| (x[i] - mean).powi(2)).sum::<f64>() / n;
        let inv_std = inv_std(var, eps);
        for i in values {
            forward.y[i] =
                (x[i] - mean) * inv_std * parameter(weight, c, 1.0) + parameter(bias, c, 0.0);
        }
        forward.mean.push(mean);
        forward.var.push(var);
        forward.inv_std.push(inv_std);
    }
    forward
}

/// Forward with running statistics: `y`.
pub fn eval(
    shape: Shape,
    x: &[f64],
    running: &Running,
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    eps: f64,
) -> Vec<f64> {
    x.iter()
        .enumerate()
        .map(|(i, x)| {
            let c = shape.channel_of(i);
            let x_hat = (x - running.mean[c]) * inv_std(running.var[c], eps);
            x_hat * parameter(weight, c, 1.0) + parameter(bias, c, 0.0)
        })
        .collect()
}

/// The gradients of [`train`], given the gradient `dy` with respect to its output. Mean and variance depend on x, so
/// each `dx` depends on all values of its channel:
/// `dx = weight * inv_std * (dy - mean(dy) - x_hat * mean(x_hat * dy))`.
pub fn backward(
    shape: Shape,
    x: &[f64],
    dy: &[f64],
    weight: Option<&[f64]>,
    eps: f64,
) -> Gradients {
    let forward = train(shape, x, None, None, eps);
    let x_hat = forward.y;
    let mut gradients = Gradients {
        dx: dy.to_vec(),
        dweight: vec![],
        dbias: vec![],
    };
    for (c, values) in channels(shape, x.len()).into_iter().enumerate() {
        let n = values.len() as f64;
        let dbias = values.iter().map(|&i| dy[i]).sum::<f64>();
        let dweight = values.iter().map(|&i| x_hat[i] * dy[i]).sum::<f64>();
        let scale = parameter(weight, c, 1.0) * forward.inv_std[c];
        for i in values {
            gradients.dx[i] = scale * (dy[i] - dbias / n - x_hat[i] * dweight / n);
        }
        gradients.dweight.push(dweight);
        gradients.dbias.push(dbias);
    }
    gradients
}

/// The gradients of [`eval`], given the gradient `dy` with respect to its output. The statistics are constants.
pub fn backward_frozen(
    shape: Shape,
    x: &[f64],
    dy: &[f64],
    running: &Running,
    weight: Option<&[f64]>,
    eps: f64,
) -> Gradients {
    let x_hat = eval(shape, x, running, None, None, eps);
    let mut gradients = Gradients {
        dx: dy.to_vec(),
        dweight: vec![],
        dbias: vec![],
    };
    for (c, values) in channels(shape, x.len()).into_iter().enumerate() {
        gradients.dbias.push(values.iter().map(|&i| dy[i]).sum());
        gradients
            .dweight
            .push(values.iter().map(|&i| x_hat[i] * dy[i]).sum());
        let scale = parameter(weight, c, 1.0) * inv_std(running.var[c], eps);
        for i in values {
            gradients.dx[i] = scale * dy[i];
        }
    }
    gradients
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::slopes::{close, dot, slopes};

    /// Values in about [-2, 2]. The tests' tolerances are made for these, not for those of `noise`.
    fn values(seed: u32, count: usize) -> Vec<f64> {
        (0..count as u32)
            .map(|i| (f64::from(i * i * 7 + i * 13 + seed) * 0.71).sin() * 2.0)
            .collect()
    }

    #[test]
    fn the_worked_examples_of_textbooks() {
        let (shape, x) = (Shape::nc(4, 1), [2.0, 4.0, 6.0, 8.0]);
        let y = train(shape, &x, Some(&[1.0]), Some(&[0.0]), 0.0).y;
        close("y", &y, &[-1.342, -0.447, 0.447, 1.342], 5e-4);
        let y = train(shape, &x, Some(&[2.0]), Some(&[1.0]), 0.0).y;
        close("y", &y, &[-1.684, 0.106, 1.894, 3.684], 1e-3);
        let gradients = backward(Shape::nc(2, 1), &[1.0, 3.0], &[0.5, -0.5], None, 0.0);
        close("dx", &gradients.dx, &[0.0, 0.0], 1e-15);
    }

    #[test]
    fn normalized_values_have_mean_0_and_square_1() {
        let shape = Shape::nchw(3, 2, 2, 3);
        let x_hat = train(shape, &values(1, 36), None, None, 0.0).y;
        for channel in channels(shape, 36) {
            let sum = channel.iter().map(|&i| x_hat[i]).sum::<f64>();
            let squares = channel.iter().map(|&i| x_hat[i].powi(2)).sum::<f64>();
            let mean_square = squares / channel.len() as f64;
            close("x_hat", &[sum, mean_square], &[0.0, 1.0], 1e-13);
        }
    }

    #[test]
    fn a_constant_added_to_a_channel_has_no_effect() {
        let shape = Shape::nhwc(2, 2, 2, 3);
        let x = values(2, 24);
        let shifted: Vec<f64> = x
            .iter()
            .enumerate()
            .map(|(i, v)| v + [5.0, -3.0, 0.5][shape.channel_of(i)])
            .collect();
        let y = |x: &[f64]| train(shape, x, None, None, 1e-5).y;
        close("y", &y(&shifted), &y(&x), 1e-13);
    }

    #[test]
    fn a_constant_channel_becomes_its_bias() {
        let y = train(Shape::nc(3, 1), &[7.0; 3], Some(&[2.0]), Some(&[0.25]), 0.0).y;
        assert_eq!(y, [0.25; 3]);
    }

    #[test]
    fn running_statistics_follow_torch() {
        let shape = Shape::nc(4, 1);
        let batch = train(shape, &[2.0, 4.0, 6.0, 8.0], None, None, 1e-5);
        let mut running = Running::new(1);
        running.update(&batch, 4, Some(0.1));
        // Mean 5, unbiased variance 20/3.
        close("mean", &running.mean, &[0.5], 1e-15);
        close("var", &running.var, &[0.9 + 2.0 / 3.0], 1e-15);

        let mut average = Running::new(1);
        for x in [[0.0, 2.0], [4.0, 8.0], [1.0, 3.0]] {
            average.update(&train(Shape::nc(2, 1), &x, None, None, 1e-5), 2, None);
        }
        close("mean", &average.mean, &[3.0], 1e-15);
        close("var", &average.var, &[4.0], 1e-15);
        assert_eq!(average.num_batches_tracked, 3);

        let before = average.clone();
        average.update(&train(Shape::nc(0, 1), &[], None, None, 1e-5), 0, None);
        assert_eq!(average, before);
    }

    #[test]
    fn gradients_are_slopes() {
        for shape in [
            Shape::nc(5, 3),
            Shape::ncl(2, 3, 4),
            Shape::nlc(2, 4, 3),
            Shape::nchw(2, 2, 3, 2),
            Shape::nhwc(2, 3, 2, 2),
            Shape::ncdhw(2, 2, 1, 2, 3),
        ] {
            let (len, c, eps) = (shape.elements().unwrap(), shape.channels(), 1e-3);
            let (x, dy) = (values(3, len), values(4, len));
            let (weight, bias) = (values(5, c), values(6, c));
            let running = Running {
                mean: values(7, c),
                var: values(8, c).iter().map(|v| v.abs() + 0.5).collect(),
                num_batches_tracked: 1,
            };
            let dot = |y: Vec<f64>| dot(&y, &dy);
            let by_batch =
                |x: &[f64], w: &[f64], b: &[f64]| dot(train(shape, x, Some(w), Some(b), eps).y);
            let gradients = backward(shape, &x, &dy, Some(&weight), eps);
            close(
                "dx",
                &gradients.dx,
                &slopes(&x, |x| by_batch(x, &weight, &bias)),
                1e-7,
            );
            close(
                "dweight",
                &gradients.dweight,
                &slopes(&weight, |w| by_batch(&x, w, &bias)),
                1e-7,
            );
            close(
                "dbias",
                &gradients.dbias,
                &slopes(&bias, |b| by_batch(&x, &weight, b)),
                1e-7,
            );

            let frozen = |x: &[f64], w: &[f64], b: &[f64]| {
                dot(eval(shape, x, &running, Some(w), Some(b), eps))
            };
            let gradients = backward_frozen(shape, &x, &dy, &running, Some(&weight), eps);
            close(
                "dx",
                &gradients.dx,
                &slopes(&x, |x| frozen(x, &weight, &bias)),
                1e-7,
            );
            close(
                "dweight",
                &gradients.dweight,
                &slopes(&weight, |w| frozen(&x, w, &bias)),
                1e-7,
            );
            close(
                "dbias",
                &gradients.dbias,
                &slopes(&bias, |b| frozen(&x, &weight, b)),
                1e-7,
            );
        }
    }
}
