//! GroupNorm, LayerNorm and RMSNorm, whose cases `sample_norms.py` made.

use serde::Deserialize;
use wgpu_norm::Shape;
use wgpu_norm::reference::{group_norm, layer_norm, rms_norm};

use super::{Tensors, each, terms};
use crate::common::fixtures::draw;

/// What is said of every case.
#[derive(Debug, Deserialize)]
struct Options {
    weight: bool,
    #[serde(default)]
    bias: bool,
    eps: f64,
    mean: f64,
    scale: f64,
    constant: bool,
}

#[derive(Debug, Deserialize)]
struct Groups {
    line: String,
    groups: usize,
    #[serde(flatten)]
    options: Options,
}

#[derive(Debug, Deserialize)]
struct Rows {
    rows: usize,
    size: usize,
    #[serde(flatten)]
    options: Options,
}

struct Inputs {
    x: Vec<f64>,
    dy: Vec<f64>,
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
}

impl Inputs {
    /// `is_first` says which values are constant in a case that has such.
    fn draw(
        index: usize,
        count: usize,
        parameters: usize,
        options: &Options,
        is_first: impl Fn(usize) -> bool,
    ) -> Self {
        let seed = 8 * index as u64;
        let mut x = draw(seed + 1, count);
        for (i, value) in x.iter_mut().enumerate() {
            *value = options.mean + options.scale * *value;
            if options.constant && is_first(i) {
                *value = 7.0;
            }
        }
        let weight = || draw(seed + 3, parameters).iter().map(|v| 1.5 + v).collect();
        Self {
            x,
            dy: draw(seed + 2, count),
            weight: options.weight.then(weight),
            bias: options.bias.then(|| draw(seed + 4, parameters)),
        }
    }
}

#[test]
fn group_norm_agrees_with_torch() {
    let file = include_bytes!("../fixtures/group_norm.safetensors");
    let script = include_bytes!("../fixtures/sample_norms.py");
    each(file, script, 86, check_groups);
}

#[test]
fn layer_norm_agrees_with_torch() {
    let file = include_bytes!("../fixtures/layer_norm.safetensors");
    let script = include_bytes!("../fixtures/sample_norms.py");
    each(file, script, 40, check_layer_norm);
}

#[test]
fn rms_norm_agrees_with_torch() {
    let file = include_bytes!("../fixtures/rms_norm.safetensors");
    let script = include_bytes!("../fixtures/sample_norms.py");
    each(file, script, 30, check_rms_norm);
}

fn check_groups(tensors: &Tensors<'_>, case: &Groups) {
    let shape: Shape = case.line.parse().expect("a problem line");
    let (channels, options) = (shape.channels(), &case.options);
    let count = shape.elements().expect("a small shape");
    let is_first = |i| shape.sample_of(i) == 0 && shape.channel_of(i) < channels / case.groups;
    let inputs = Inputs::draw(tensors.index, count, channels, options, is_first);
    let (x, weight, bias) = (&inputs.x, inputs.weight.as_deref(), inputs.bias.as_deref());
    let forward = group_norm::forward(shape, case.groups, x, weight, bias, options.eps);
    let gradients = group_norm::backward(shape, case.groups, x, &inputs.dy, weight, options.eps);
    check(
        tensors,
        case,
        options,
        [
            &forward.y,
            &gradients.dx,
            &gradients.dweight,
            &gradients.dbias,
        ],
    );
}

fn check_layer_norm(tensors: &Tensors<'_>, case: &Rows) {
    let (size, options) = (case.size, &case.options);
    let inputs = Inputs::draw(tensors.index, case.rows * size, size, options, |i| i < size);
    let (x, weight, bias) = (&inputs.x, inputs.weight.as_deref(), inputs.bias.as_deref());
    let forward = layer_norm::forward(size, x, weight, bias, options.eps);
    let gradients = layer_norm::backward(size, x, &inputs.dy, weight, options.eps);
    check(
        tensors,
        case,
        options,
        [
            &forward.y,
            &gradients.dx,
            &gradients.dweight,
            &gradients.dbias,
        ],
    );
}

fn check_rms_norm(tensors: &Tensors<'_>, case: &Rows) {
    let (size, options) = (case.size, &case.options);
    let inputs = Inputs::draw(tensors.index, case.rows * size, size, options, |i| i < size);
    let (x, weight) = (&inputs.x, inputs.weight.as_deref());
    let forward = rms_norm::forward(size, x, weight, None, options.eps);
    let gradients = rms_norm::backward(size, x, &inputs.dy, weight, options.eps);
    // No mean is subtracted, so nothing cancels.
    tensors.check("y", &forward.y, 1.0, case);
    tensors.check("dx", &gradients.dx, 1.0, case);
    if options.weight {
        tensors.check("dweight", &gradients.dweight, 1.0, case);
    }
}

fn check(
    tensors: &Tensors<'_>,
    case: &dyn std::fmt::Debug,
    options: &Options,
    [y, dx, dweight, dbias]: [&Vec<f64>; 4],
) {
    for (name, actual, present) in [
        ("y", y, true),
        ("dx", dx, true),
        ("dweight", dweight, options.weight),
        ("dbias", dbias, options.bias),
    ] {
        if present {
            let terms = terms(name, options.mean, options.scale, options.constant);
            tensors.check(name, actual, terms, case);
        }
    }
}
