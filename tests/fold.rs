//! A folded layer computes what layer and norm computed, for each kind of layer; and unfolds.

use crate::common::{noise, wide};
use wgpu_norm::batch_norm::State;
use wgpu_norm::fold::{Weights, fold, unfold};
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::noise as draw;
use wgpu_norm::{BatchNormConfig, FoldError, Shape};

/// The largest relative error of one rounding to f32.
const ROUNDING: f64 = 1.0 / (1u64 << 24) as f64;

/// A layer before a norm. Extents and positions have three axes, of which unused ones are 1.
#[derive(Clone, Copy, Debug)]
struct Layer {
    axes: usize,
    inputs: usize,
    outputs: usize,
    groups: usize,
    kernel: [usize; 3],
    stride: usize,
    padding: usize,
    transposed: bool,
}

impl Layer {
    fn shape(&self) -> Vec<usize> {
        let [first, second] = match self.transposed {
            false => [self.outputs, self.inputs / self.groups],
            true => [self.inputs, self.outputs / self.groups],
        };
        [&[first, second], &self.kernel[..self.axes]].concat()
    }

    fn weights<'a>(&self, shape: &'a [usize], weight: &'a [f32]) -> Weights<'a> {
        match self.transposed {
            false => Weights::new(shape, weight),
            true => Weights::transposed(shape, weight, self.groups),
        }
    }

    /// The extents of the output, which are those of its axes.
    fn output(&self, input: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|axis| match (axis < self.axes, self.transposed) {
            (false, _) => 1,
            (true, false) => (input[axis] + 2 * self.padding - self.kernel[axis]) / self.stride + 1,
            (true, true) => (input[axis] - 1) * self.stride + self.kernel[axis] - 2 * self.padding,
        })
    }

    /// The layer by its definition, in f64, channels first: each product of an input and a weight goes to the output that it
    /// belongs to. A linear layer has no axes.
    fn apply(&self, x: &[f64], input: [usize; 3], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let output = self.output(input);
        let [in_plane, out_plane] =
            [input, output].map(|extents| extents.iter().product::<usize>());
        let batch = x.len() / (self.inputs * in_plane);
        let mut y: Vec<f64> = Vec::new();
        for _ in 0..batch {
            y.extend(
                bias.iter()
                    .flat_map(|&bias| std::iter::repeat_n(bias, out_plane)),
            );
        }
        let kernel_size: usize = self.kernel.iter().product();
        let [in_group, out_group] = [self.inputs, self.outputs].map(|count| count / self.groups);
        let place = |at: usize, extents: [usize; 3]| {
            [
                at / (extents[1] * extents[2]),
                at / extents[2] % extents[1],
                at % extents[2],
            ]
        };
        for (at, &x) in x.iter().enumerate() {
            let (n, i, from) = (
                at / (self.inputs * in_plane),
                at / in_plane % self.inputs,
                place(at % in_plane, input),
            );
            for o in 0..out_group {
                for tap in 0..kernel_size {
                    let k = place(tap, self.kernel);
                    let target: Option<Vec<usize>> = (0..3)
                        .map(|axis| match (axis < self.axes, self.transposed) {
                            (false, _) => Some(0),
                            (true, true) => {
                                (from[axis] * self.stride + k[axis]).checked_sub(self.padding)
                            }
                            (true, false) => {
                                let shifted = (from[axis] + self.padding).checked_sub(k[axis])?;
                                shifted
                                    .is_multiple_of(self.stride)
                                    .then_some(shifted / self.stride)
                            }
                        })
                        .collect();
                    let Some(to) =
                        target.filter(|to| to.iter().zip(output).all(|(&at, extent)| at < extent))
                    else {
                        continue;
                    };
                    let channel = i / in_group * out_group + o;
                    let entry = match self.transposed {
                        false => channel * in_group + i % in_group,
                        true => i * out_group + o,
                    };
                    let to = (to[0] * output[1] + to[1]) * output[2] + to[2];
                    y[(n * self.outputs + channel) * out_plane + to] +=
                        x * weight[entry * kernel_size + tap];
                }
            }
        }
        y
    }
}

/// A norm of this many channels. Where it has no weight or bias, it has neither in the state.
fn norm(seed: u64, channels: usize, weight: bool, bias: bool) -> (BatchNormConfig, State) {
    let config = BatchNormConfig::new(channels)
        .weight(weight)
        .bias(bias)
        .eps(1e-3);
    let mut state = State::default();
    state.weight = weight.then(|| noise(seed, channels));
    state.bias = bias.then(|| noise(seed + 1, channels));
    state.running_mean = Some(noise(seed + 2, channels).iter().map(|v| 3.0 * v).collect());
    let variance = |v: f32| (8.0 * v).exp2();
    state.running_var = Some(
        noise(seed + 3, channels)
            .into_iter()
            .map(variance)
            .collect(),
    );
    state.num_batches_tracked = Some(1);
    (config, state)
}

/// The norm by its oracle, over the output of a layer.
fn normalized(
    layer: &Layer,
    y: &[f64],
    plane: usize,
    config: &BatchNormConfig,
    state: &State,
) -> Vec<f64> {
    let batch = y.len() / (layer.outputs * plane);
    let running = Running {
        mean: wide(state.running_mean.as_ref().unwrap()),
        var: wide(state.running_var.as_ref().unwrap()),
        num_batches_tracked: 1,
    };
    let [weight, bias] = [&state.weight, &state.bias].map(|row| row.as_ref().map(|row| wide(row)));
    let shape = Shape::ncl(batch, layer.outputs, plane);
    oracle::eval(
        shape,
        y,
        &running,
        weight.as_deref(),
        bias.as_deref(),
        config.eps.into(),
    )
}

/// Checks one layer with one norm; `[largest error, as a share of its bound]`.
fn check(layer: &Layer, seed: u64, [weight, bias, own_bias]: [bool; 3]) -> [f64; 2] {
    let input = std::array::from_fn(|axis| if axis < layer.axes { 5 + axis } else { 1 });
    let shape = layer.shape();
    let x = wide(&noise(
        seed,
        2 * layer.inputs * input.iter().product::<usize>(),
    ));
    let values = noise(seed + 10, shape.iter().product());
    let layer_bias = noise(seed + 11, layer.outputs);
    let weights = layer
        .weights(&shape, &values)
        .bias(own_bias.then_some(&layer_bias[..]));
    let (config, state) = norm(seed + 20, layer.outputs, weight, bias);

    let before = if own_bias {
        wide(&layer_bias)
    } else {
        vec![0.0; layer.outputs]
    };
    let plane: usize = layer.output(input).iter().product();
    let y = layer.apply(&x, input, &wide(&values), &before);
    let expected = normalized(layer, &y, plane, &config, &state);

    let folded = fold(weights, &config, &state).unwrap();
    let (new, new_bias) = (wide(&folded.weight), wide(&folded.bias));
    let got = layer.apply(&x, input, &new, &new_bias);
    // Each folded weight and bias is rounded once: the error is at most a rounding of each product. Sums are in f64, and all
    // that is done in f64 has a margin of a thousandth.
    let sizes = |values: &[f64]| values.iter().map(|v| v.abs()).collect::<Vec<f64>>();
    let size = layer.apply(&sizes(&x), input, &sizes(&new), &sizes(&new_bias));
    assert_eq!([got.len(), size.len()], [expected.len(); 2]);
    let (mut largest, mut share) = (0f64, 0f64);
    for ((got, expected), size) in got.iter().zip(&expected).zip(size) {
        let (error, bound) = ((got - expected).abs(), 1.001 * ROUNDING * size + 1e-12);
        assert!(error <= bound, "{layer:?}: {got} {expected}, bound {bound}");
        (largest, share) = (largest.max(error), share.max(error / bound));
    }

    // And back: a rounding of the folded value, and one of the result. The bias is a difference of larger values.
    let back = unfold(folded.like(weights), &config, &state).unwrap();
    for (back, value) in back.weight.iter().zip(&values) {
        let error = (f64::from(*back) - f64::from(*value)).abs();
        assert!(
            error <= 2.001 * ROUNDING * f64::from(value.abs()),
            "{back} {value}"
        );
    }
    for channel in 0..layer.outputs {
        let scale = state.weight.as_ref().map_or(1.0, |w| f64::from(w[channel]))
            / (f64::from(state.running_var.as_ref().unwrap()[channel]) + f64::from(config.eps))
                .sqrt();
        let bound = 1.001 * ROUNDING * ((new_bias[channel] / scale).abs() + before[channel].abs());
        let error = (f64::from(back.bias[channel]) - before[channel]).abs();
        // The result is rounded where it is, which is near `before`.
        assert!(error <= bound + ROUNDING * error + 1e-12, "{error} {bound}");
    }
    [largest, share]
}

fn kinds() -> Vec<(&'static str, Layer)> {
    let linear = Layer {
        axes: 0,
        inputs: 7,
        outputs: 5,
        groups: 1,
        kernel: [1; 3],
        stride: 1,
        padding: 0,
        transposed: false,
    };
    let conv = |axes, groups, transposed| Layer {
        axes,
        inputs: 6,
        outputs: 12,
        groups,
        kernel: std::array::from_fn(|axis| if axis < axes { 3 - axis.min(1) } else { 1 }),
        stride: 1 + groups % 2,
        padding: 1,
        transposed,
    };
    vec![
        ("linear", linear),
        ("conv1d", conv(1, 1, false)),
        ("conv2d", conv(2, 1, false)),
        ("conv3d", conv(3, 1, false)),
        ("conv2d, 3 groups", conv(2, 3, false)),
        ("conv2d, depthwise", conv(2, 6, false)),
        ("transposed conv1d", conv(1, 1, true)),
        ("transposed conv2d", conv(2, 1, true)),
        ("transposed conv3d", conv(3, 1, true)),
        ("transposed conv2d, 3 groups", conv(2, 3, true)),
        ("transposed conv1d, depthwise", conv(1, 6, true)),
    ]
}

#[test]
fn a_folded_layer_computes_the_same_and_unfolds() {
    for (name, layer) in kinds() {
        let mut worst = [0f64; 2];
        for choice in 0..8 {
            let choices = [choice & 1 == 0, choice & 2 == 0, choice & 4 == 0];
            let errors = check(&layer, 100 * choice, choices);
            worst = std::array::from_fn(|i| worst[i].max(errors[i]));
        }
        println!(
            "{name:30} largest error {:.1e}, {:.2} of its bound",
            worst[0], worst[1]
        );
        // A bound that is far away would hold anything.
        assert!(worst[1] > 0.05, "{name}");
    }
}

#[test]
fn layers_of_drawn_shapes_fold_and_unfold() {
    let mut numbers = draw(6, usize::MAX);
    let mut pick = |from: usize, to: usize| {
        let share = (numbers.next().unwrap() + 1.0) / 2.0;
        from + (share * (to - from + 1) as f64) as usize
    };
    for round in 0..60 {
        let axes = pick(0, 3);
        let groups = if axes == 0 { 1 } else { pick(1, 4) };
        let layer = Layer {
            axes,
            inputs: groups * pick(1, 3),
            outputs: groups * pick(1, 3),
            groups,
            kernel: std::array::from_fn(|axis| if axis < axes { pick(1, 3) } else { 1 }),
            stride: pick(1, 3),
            padding: pick(0, 1),
            transposed: axes > 0 && pick(0, 1) == 1,
        };
        check(
            &layer,
            1000 + 50 * round,
            std::array::from_fn(|_| pick(0, 1) == 1),
        );
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (config, state) = norm(1, 4, true, true);
    let values = noise(2, 24);
    let refused = |weights: Weights<'_>, message: &str| {
        for result in [
            fold(weights, &config, &state),
            unfold(weights, &config, &state),
        ] {
            let error = result.unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    };
    refused(
        Weights::new(&[24], &values),
        "shape: expected at least two extents, got [24]",
    );
    refused(Weights::new(&[], &values), "shape: expected at least two");
    refused(
        Weights::new(&[6, 4], &values),
        "weight: expected 4 output channels, those of the norm, got 6 in [6, 4]",
    );
    refused(
        Weights::new(&[4, 5], &values),
        "weight: expected 20 values, got 24",
    );
    refused(
        Weights::new(&[4, usize::MAX, 2], &values),
        "shape: expected a product that fits",
    );
    refused(
        Weights::new(&[4, 6], &values).bias(Some(&values)),
        "bias: expected 4 values, got 24",
    );
    refused(
        Weights::transposed(&[6, 4], &values, 0),
        "shape: a transposed convolution has at least one group",
    );
    refused(
        Weights::transposed(&[6, 4], &values, 5),
        "shape: groups must divide the input channels",
    );
    refused(
        Weights::transposed(&[6, 4], &values, 2),
        "weight: expected 4 output channels, those of the norm, got 8",
    );
    let mut broken = values.clone();
    broken[5] = f32::NAN;
    refused(
        Weights::new(&[4, 6], &broken),
        "weight of the layer[5]: expected a finite number, got NaN",
    );
    // Empty layers are layers.
    let empty = fold(Weights::new(&[4, 0, 3], &[]), &config, &state).unwrap();
    assert!(empty.weight.is_empty());
    assert_eq!(
        fold(Weights::transposed(&[0, 2, 3], &[], 2), &config, &state)
            .unwrap()
            .bias
            .len(),
        4
    );
}

#[test]
fn a_norm_that_cannot_be_folded_is_refused() {
    let layer = noise(2, 8);
    let weights = Weights::new(&[4, 2], &layer);
    let (config, state) = norm(1, 4, true, true);
    let refused = |config: &BatchNormConfig, change: &dyn Fn(&mut State), message: &str| {
        let mut state = state.clone();
        change(&mut state);
        let error = fold(weights, config, &state).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    };
    let untracked = config.track_running_stats(false);
    refused(
        &untracked,
        &|_| {},
        "running_mean: track_running_stats is off",
    );
    refused(
        &config,
        &|s| s.running_mean = None,
        "running_mean: is missing",
    );
    refused(
        &config,
        &|s| s.running_var = None,
        "running_var: is missing",
    );
    refused(&config, &|s| s.weight = None, "weight: is missing");
    refused(
        &config.bias(false),
        &|_| {},
        "bias: is given, but the configuration has none",
    );
    refused(
        &config,
        &|s| s.bias = Some(vec![0.0; 3]),
        "bias: expected 4 values, got 3",
    );
    refused(
        &config,
        &|s| s.running_var = Some(vec![1.0, 1.0, -1.0, 1.0]),
        "running_var[2]: expected 0 or more, got -1",
    );
    refused(
        &config,
        &|s| s.running_var = Some(vec![f32::NAN; 4]),
        "running_var[0]: ",
    );
    refused(
        &config,
        &|s| s.running_mean = Some(vec![f32::INFINITY; 4]),
        "running_mean[0]: ",
    );
    refused(
        &config,
        &|s| s.bias = Some(vec![f32::NAN; 4]),
        "bias[0]: expected a finite number",
    );
    refused(&config.eps(-1.0), &|_| {}, "eps[0]: ");
    refused(&config, &|s| s.weight = Some(vec![f32::MAX; 4]), "weight[");
}

#[test]
fn a_channel_without_a_factor_becomes_its_bias_and_stays_folded() {
    let layer = [1.0, 2.0, 3.0];
    let weights = Weights::new(&[3, 1], &layer).bias(Some(&layer));
    let (config, mut state) = norm(1, 3, true, true);
    state.running_var = Some(vec![0.0, f32::INFINITY, 1.0]);
    state.weight = Some(vec![1.0, 1.0, 0.0]);
    let folded = fold(weights, &config.eps(0.0), &state).unwrap();
    assert_eq!(folded.weight, [0.0; 3]);
    assert_eq!(Some(&folded.bias), state.bias.as_ref());
    let error = unfold(folded.like(weights), &config.eps(0.0), &state).unwrap_err();
    assert_eq!(error, FoldError::ZeroScale { channel: 0 });
    state.running_var = Some(vec![1.0; 3]);
    let error = unfold(folded.like(weights), &config, &state).unwrap_err();
    assert_eq!(error, FoldError::ZeroScale { channel: 2 });
}
