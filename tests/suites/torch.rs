//! The samples and the error inputs of torch's own tests: OpInfo for functions, ModuleInfo for modules.

use std::collections::BTreeMap;

use serde::Deserialize;
use wgpu_norm::reference::batch_norm::Running;
use wgpu_norm::reference::compare::Bound;
use wgpu_norm::{Dtype, Layout, Shape};

use super::case::{Case, Norm};
use crate::common::fixtures::{Fixtures, draw};

/// A sample of `torch_samples.py`.
#[derive(Debug, Deserialize)]
struct Sample {
    suite: String,
    name: String,
    norm: String,
    shape: Vec<usize>,
    options: Options,
    /// Seed, low and high of each input.
    drawn: BTreeMap<String, (u64, f64, f64)>,
}

/// torch's arguments. Those that a sample leaves out have torch's defaults.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default = "default_eps")]
    eps: f64,
    #[serde(default = "default_momentum")]
    momentum: Option<f64>,
    training: Option<bool>,
    track_running_stats: Option<bool>,
    #[serde(default = "default_use_input_stats")]
    use_input_stats: bool,
    num_groups: Option<usize>,
    normalized_shape: Option<Vec<usize>>,
}

fn default_eps() -> f64 {
    1e-5
}

fn default_momentum() -> Option<f64> {
    Some(0.1)
}

fn default_use_input_stats() -> bool {
    true
}

/// A call that torch refuses.
#[derive(Debug, Deserialize)]
pub struct ErrorInput {
    pub norm: String,
    /// `None` where torch refuses to make the module.
    pub shape: Option<Vec<usize>>,
    pub arguments: serde_json::Value,
    /// torch's message.
    pub error: String,
}

/// A sample that is too large for the file.
#[derive(Debug, PartialEq, Deserialize)]
struct LeftOut {
    name: String,
    values: usize,
}

fn fixtures() -> Fixtures {
    let file = include_bytes!("../fixtures/torch_samples.safetensors");
    let fixtures = Fixtures::new(file, include_bytes!("../fixtures/torch_samples.py"));
    let torch = fixtures.text("torch");
    assert!(torch.starts_with("2.15."), "torch {torch}");
    fixtures
}

pub fn cases() -> Vec<Case> {
    let fixtures = fixtures();
    let samples: Vec<Sample> = fixtures.json("cases");
    let cases = samples
        .into_iter()
        .map(|sample| case(&fixtures, sample))
        .collect();
    fixtures.check_all_used();
    assert_eq!(fixtures.json::<Vec<LeftOut>>("left_out"), [], "too large");
    cases
}

pub fn errors() -> Vec<ErrorInput> {
    fixtures().json("errors")
}

fn case(fixtures: &Fixtures, sample: Sample) -> Case {
    let options = &sample.options;
    let shape = shape(&sample);
    let (training, tracks) = (options.training, options.track_running_stats);
    let norm = match sample.norm.as_str() {
        "batch_norm" => Norm::Batch {
            // The function's default is evaluation.
            training: training == Some(true),
            momentum: options.momentum,
        },
        "instance_norm" => Norm::Instance,
        "group_norm" => Norm::Group {
            groups: options.num_groups.expect("num_groups"),
        },
        "layer_norm" => Norm::Layer,
        "rms_norm" => Norm::Rms,
        norm => panic!("{norm}"),
    };
    let drawn = |name: &str, count: usize| {
        let &(seed, low, high) = sample.drawn.get(name)?;
        let value = |v: f64| f64::from(((high + low) / 2.0 + (high - low) / 2.0 * v) as f32);
        Some(draw(seed, count).into_iter().map(value).collect::<Vec<_>>())
    };
    let channels = shape.channels();
    let mut running = drawn("running_mean", channels).map(|mean| Running {
        mean,
        var: drawn("running_var", channels).expect("both"),
        num_batches_tracked: 0,
    });
    if norm == Norm::Instance {
        // Moved beside the output, which they change only where they take the place of the input's statistics: in a
        // module's evaluation.
        let by_running = tracks == Some(true) && training == Some(false);
        running = running.filter(|_| by_running || !options.use_input_stats);
    }
    let count = shape.elements().expect("a small shape");
    let names = ["y", "dx", "dweight", "dbias", "running_mean", "running_var"];
    let expected = names.into_iter().filter_map(|name| {
        let values = fixtures.values(&format!("{}.{name}", sample.name))?;
        Some((name, values))
    });
    Case {
        suite: match sample.suite.as_str() {
            "OpInfo" => "OpInfo",
            "ModuleInfo" => "ModuleInfo",
            suite => panic!("{suite}"),
        },
        norm,
        shape,
        dtype: Dtype::F32,
        eps: options.eps,
        weight: drawn("weight", channels),
        bias: drawn("bias", channels),
        running,
        x: drawn("x", count).expect("x"),
        dy: drawn("dy", count),
        expected: expected.collect(),
        bound: Bound::new(1e-10, 1e-10),
        inexpressible: None,
        name: sample.name,
    }
}

/// The sample's shape as the library has it.
fn shape(sample: &Sample) -> Shape {
    let dims = &sample.shape;
    if let Some(normalized) = &sample.options.normalized_shape {
        let (outer, row) = dims.split_at(dims.len() - normalized.len());
        assert_eq!(row, normalized, "{}", sample.name);
        return Shape::nc(outer.iter().product(), row.iter().product());
    }
    let dims = match dims[..] {
        // torch takes it for a batch of none without channels.
        [0] => vec![0, 0],
        // A module takes one sample without its axis.
        _ if sample.name.contains("no_batch_dim") => [&[1], &dims[..]].concat(),
        _ => dims.clone(),
    };
    Shape::from_dims(&dims, Layout::ChannelsFirst).expect("two to five axes")
}
