//! The oracles give what torch gives in float64, for every option and every corner in the fixtures.
//! The scripts in `tests/fixtures` made them.

use std::collections::BTreeSet;
use std::fmt::Debug;

use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use wgpu_norm::Shape;
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::instance_norm;

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

/// The generator of `fixtures/make.py`, whose seeding differs from `reference::noise`.
fn draw(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
    .take(count)
    .collect()
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

/// The tensors of one case, with a note of those that were asked for.
struct Tensors<'a> {
    all: &'a SafeTensors<'a>,
    index: usize,
    used: &'a mut BTreeSet<String>,
}

impl Tensors<'_> {
    fn words(&mut self, name: &str) -> Vec<[u8; 8]> {
        let name = format!("{}.{name}", self.index);
        let tensor = self
            .all
            .tensor(&name)
            .unwrap_or_else(|_| panic!("no tensor {name}"));
        self.used.insert(name);
        let words = tensor.data().chunks(8);
        words
            .map(|word| word.try_into().expect("8 bytes"))
            .collect()
    }

    /// `terms` is the size of what is added up, beside that of a result: both sides round differently, by about an
    /// f64's epsilon of their largest term.
    fn check(&mut self, name: &str, actual: &[f64], terms: f64, case: &dyn Debug) {
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

/// Reads a file of fixtures, which its script must have made as it is now, and checks each of its cases.
fn each<C: DeserializeOwned>(
    fixtures: &[u8],
    script: &[u8],
    least: usize,
    check: fn(&mut Tensors<'_>, &C),
) {
    let (_, header) = SafeTensors::read_metadata(fixtures).expect("a safetensors file");
    let metadata = header.metadata().as_ref().expect("metadata");
    let hash: String = Sha256::digest(script)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        metadata["script"], hash,
        "the script has changed: run it again"
    );
    let torch = &metadata["torch"];
    assert!(torch.starts_with("2."), "torch {torch}");
    let cases: Vec<C> = serde_json::from_str(&metadata["cases"]).expect("the cases");
    let all = SafeTensors::deserialize(fixtures).expect("tensors");

    let mut used = BTreeSet::new();
    for (index, case) in cases.iter().enumerate() {
        let mut tensors = Tensors {
            all: &all,
            index,
            used: &mut used,
        };
        check(&mut tensors, case);
    }
    let names: BTreeSet<String> = all.names().into_iter().map(ToString::to_string).collect();
    assert_eq!(used, names, "every tensor is looked at");
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

fn check_instance(tensors: &mut Tensors<'_>, case: &InstanceCase) {
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

fn check(tensors: &mut Tensors<'_>, case: &Case) {
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
    let mut check = |name: &str, actual: &[f64]| {
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
