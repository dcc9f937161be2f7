//! The oracles give what torch gives in float64, for every option and every corner in the fixtures.
//! The scripts in `tests/fixtures` made them.

mod sample_norms;

use std::fmt::Debug;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use wgpu_norm::Shape;
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::instance_norm;

use crate::common::fixtures::{Fixtures, draw};

/// A case of `make.py`; torch computed with one layer over `steps` batches.
#[derive(Debug, Deserialize)]
struct Case {
    line: String,
    mode: String,
    weight: bool,
    bias: bool,
    eps: f64,
    momentum: Option<f64>,
    track: bool,
    steps: u64,
    mean: f64,
    scale: f64,
    constant: bool,
}

/// A case of `instance_norm.py`.
#[derive(Debug, Deserialize)]
struct InstanceCase {
    line: String,
    weight: bool,
    bias: bool,
    eps: f64,
    mean: f64,
    scale: f64,
    constant: bool,
}

/// The tensors of one case.
struct Tensors<'a> {
    fixtures: &'a Fixtures,
    index: usize,
}

impl Tensors<'_> {
    fn words(&self, name: &str) -> Vec<[u8; 8]> {
        self.fixtures.words(&format!("{}.{name}", self.index))
    }

    /// `terms` is the size of what is added up, beside that of a result: both sides round differently, by about an
    /// f64's epsilon of their largest term.
    fn check(&self, name: &str, actual: &[f64], terms: f64, case: &dyn Debug) {
        let words = self.words(name).into_iter();
        let expected: Vec<f64> = words.map(f64::from_le_bytes).collect();
        let bound = Bound::new(1e-12, 1e-13 * terms);
        within(&format!("{name} of {case:?}"), actual, &expected, bound).unwrap();
    }
}

/// That is the mean for `y`, 1/sqrt(eps) for the gradient of a constant channel.
fn terms(name: &str, mean: f64, scale: f64, constant: bool) -> f64 {
    (mean.abs() / scale.abs()).max(1.0)
        * if constant { 1e3 } else { 1.0 }
        * if name == "dx" {
            (1.0 / scale).max(1.0)
        } else {
            1.0
        }
}

/// Checks each case of a file.
fn each<C: DeserializeOwned>(
    file: &'static [u8],
    script: &[u8],
    least: usize,
    check: fn(&Tensors<'_>, &C),
) {
    let fixtures = Fixtures::new(file, script);
    let torch = fixtures.text("torch");
    assert!(torch.starts_with("2."), "torch {torch}");
    let cases: Vec<C> = fixtures.json("cases");
    for (index, case) in cases.iter().enumerate() {
        let fixtures = &fixtures;
        check(&Tensors { fixtures, index }, case);
    }
    fixtures.check_all_used();
    assert!(cases.len() >= least, "{} cases", cases.len());
}

#[test]
fn batch_norm_agrees_with_torch() {
    let fixtures = include_bytes!("fixtures/torch.safetensors");
    each(fixtures, include_bytes!("fixtures/make.py"), 160, check);
}

#[test]
fn instance_norm_agrees_with_torch() {
    let fixtures = include_bytes!("fixtures/instance_norm.safetensors");
    let script = include_bytes!("fixtures/instance_norm.py");
    each(fixtures, script, 90, check_instance);
}

fn check_instance(tensors: &Tensors<'_>, case: &InstanceCase) {
    let shape: Shape = case.line.parse().expect("a problem line");
    let (channels, count) = (shape.channels(), shape.elements().expect("a small shape"));
    let seed = 8 * tensors.index as u64;
    let weight: Vec<f64> = draw(seed + 3, channels).iter().map(|v| 1.5 + v).collect();
    let bias = draw(seed + 4, channels);
    let weight = case.weight.then_some(weight.as_slice());
    let bias = case.bias.then_some(bias.as_slice());
    let mut x = draw(seed + 1, count);
    for (i, value) in x.iter_mut().enumerate() {
        *value = case.mean + case.scale * *value;
        if case.constant && i < count / shape.batch() && shape.channel_of(i) == 0 {
            *value = 7.0;
        }
    }
    let dy = draw(seed + 2, count);

    let forward = instance_norm::forward(shape, &x, weight, bias, case.eps);
    let gradients = instance_norm::backward(shape, &x, &dy, weight, case.eps);
    for (name, actual, present) in [
        ("y", &forward.y, true),
        ("dx", &gradients.dx, true),
        ("dweight", &gradients.dweight, case.weight),
        ("dbias", &gradients.dbias, case.bias),
    ] {
        if present {
            let terms = terms(name, case.mean, case.scale, case.constant);
            tensors.check(name, actual, terms, case);
        }
    }
}

fn check(tensors: &Tensors<'_>, case: &Case) {
    let shape: Shape = case.line.parse().expect("a problem line");
    let (channels, count) = (shape.channels(), shape.elements().expect("a small shape"));
    let seed = 8 * tensors.index as u64;
    let weight: Vec<f64> = draw(seed + 3, channels)
        .into_iter()
        .map(|v| 1.5 + v)
        .collect();
    let bias = draw(seed + 4, channels);
    let weight = case.weight.then_some(weight.as_slice());
    let bias = case.bias.then_some(bias.as_slice());
    let mut running = Running {
        mean: draw(seed + 5, channels),
        var: draw(seed + 6, channels)
            .into_iter()
            .map(|v| 1.5 + v)
            .collect(),
        num_batches_tracked: 0,
    };
    let batch = |step: u64| -> Vec<f64> {
        let mut x = draw(seed + 1 + 1_000_003 * step, count);
        for (i, value) in x.iter_mut().enumerate() {
            *value = case.mean + case.scale * *value;
            if case.constant && shape.channel_of(i) == 0 {
                *value = 7.0;
            }
        }
        x
    };
    let dy = draw(seed + 2, count);
    let x = batch(case.steps - 1);

    let (y, gradients) = if case.mode == "eval" && case.track {
        (
            oracle::eval(shape, &x, &running, weight, bias, case.eps),
            oracle::backward_frozen(shape, &x, &dy, &running, weight, case.eps),
        )
    } else {
        let values = shape.values_per_channel().expect("a small shape") as u64;
        for step in 0..case.steps {
            let forward = oracle::train(shape, &batch(step), weight, bias, case.eps);
            running.update(&forward, values, case.momentum);
        }
        (
            oracle::train(shape, &x, weight, bias, case.eps).y,
            oracle::backward(shape, &x, &dy, weight, case.eps),
        )
    };
    let check = |name: &str, actual: &[f64]| {
        let terms = terms(name, case.mean, case.scale, case.constant);
        tensors.check(name, actual, terms, case);
    };
    check("y", &y);
    check("dx", &gradients.dx);
    if case.weight {
        check("dweight", &gradients.dweight);
    }
    if case.bias {
        check("dbias", &gradients.dbias);
    }
    if case.track && case.mode == "train" {
        check("running_mean", &running.mean);
        check("running_var", &running.var);
        let counted: Vec<i64> = tensors
            .words("num_batches_tracked")
            .into_iter()
            .map(i64::from_le_bytes)
            .collect();
        assert_eq!(counted, [running.num_batches_tracked as i64], "{case:?}");
    }
}
