//! The oracle gives what torch gives in float64, for every option and every corner in the fixtures.
//! `tests/fixtures/make.py` made them.

use std::collections::BTreeSet;

use safetensors::SafeTensors;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use wgpu_norm::Shape;
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};

const FIXTURES: &[u8] = include_bytes!("fixtures/torch.safetensors");
const SCRIPT: &[u8] = include_bytes!("fixtures/make.py");

/// A case of the script; torch computed with one layer over `steps` batches.
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

    fn check(&mut self, name: &str, actual: &[f64], case: &Case) {
        let expected: Vec<f64> = self
            .words(name)
            .into_iter()
            .map(f64::from_le_bytes)
            .collect();
        // Both sides round differently, by about an f64's epsilon of their largest term: the mean for y,
        // 1/sqrt(eps) for the gradient of a constant channel.
        let terms = (case.mean.abs() / case.scale.abs()).max(1.0)
            * if case.constant { 1e3 } else { 1.0 }
            * if name == "dx" {
                (1.0 / case.scale).max(1.0)
            } else {
                1.0
            };
        within(
            &format!("{} of {case:?}", name),
            actual,
            &expected,
            Bound::new(1e-12, 1e-13 * terms),
        )
        .unwrap();
    }
}

#[test]
fn the_oracle_agrees_with_torch() {
    let (_, header) = SafeTensors::read_metadata(FIXTURES).expect("a safetensors file");
    let metadata = header.metadata().as_ref().expect("metadata");
    let script: String = Sha256::digest(SCRIPT)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        metadata["script"], script,
        "make.py has changed: run it again"
    );
    assert!(
        metadata["torch"].starts_with("2."),
        "torch {}",
        metadata["torch"]
    );
    let cases: Vec<Case> = serde_json::from_str(&metadata["cases"]).expect("the cases");
    let all = SafeTensors::deserialize(FIXTURES).expect("tensors");

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
    assert!(cases.len() > 100);
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
    tensors.check("y", &y, case);
    tensors.check("dx", &gradients.dx, case);
    if case.weight {
        tensors.check("dweight", &gradients.dweight, case);
    }
    if case.bias {
        tensors.check("dbias", &gradients.dbias, case);
    }
    if case.track && case.mode == "train" {
        tensors.check("running_mean", &running.mean, case);
        tensors.check("running_var", &running.var, case);
        let counted: Vec<i64> = tensors
            .words("num_batches_tracked")
            .into_iter()
            .map(i64::from_le_bytes)
            .collect();
        assert_eq!(counted, [running.num_batches_tracked as i64], "{case:?}");
    }
}
