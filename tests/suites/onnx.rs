//! ONNX's node tests.

use serde::Deserialize;
use wgpu_norm::reference::batch_norm::Running;
use wgpu_norm::reference::compare::Bound;
use wgpu_norm::{Dtype, Layout, Shape};

use super::case::{Case, Norm, Values};
use crate::common::fixtures::Fixtures;

/// A test of `onnx.py`, with the operator's attributes.
#[derive(Debug, Deserialize)]
struct Test {
    name: String,
    op: String,
    epsilon: f64,
    momentum: Option<f64>,
    training_mode: Option<u8>,
    num_groups: Option<usize>,
    axis: Option<isize>,
}

pub fn cases() -> Vec<Case> {
    let file = include_bytes!("../fixtures/onnx.safetensors");
    let fixtures = Fixtures::new(file, include_bytes!("../fixtures/onnx.py"));
    assert_eq!(fixtures.text("onnx"), "1.19.0");
    let tests: Vec<Test> = fixtures.json("cases");
    let cases = tests
        .into_iter()
        .map(|test| case(&fixtures, test))
        .collect();
    fixtures.check_all_used();
    cases
}

fn case(fixtures: &Fixtures, test: Test) -> Case {
    let values = |name: &str| fixtures.values(&format!("{}.{name}", test.name));
    let dims = fixtures.dims(&format!("{}.X", test.name));
    let (norm, shape) = match test.op.as_str() {
        "LayerNormalization" => (Norm::Layer, rows(&dims, test.axis)),
        "RMSNormalization" => (Norm::Rms, rows(&dims, test.axis)),
        op => {
            let norm = match op {
                "BatchNormalization" => Norm::Batch {
                    training: test.training_mode == Some(1),
                    // ONNX's is the share of the old statistics.
                    momentum: test.momentum.map(|momentum| 1.0 - momentum),
                },
                "InstanceNormalization" => Norm::Instance,
                "GroupNormalization" => Norm::Group {
                    groups: test.num_groups.expect("num_groups"),
                },
                op => panic!("{op}"),
            };
            let shape = Shape::from_dims(&dims, Layout::ChannelsFirst);
            (norm, shape.expect("up to five axes"))
        }
    };
    let running = values("input_mean").map(|mean| Running {
        mean,
        var: values("input_var").expect("both"),
        num_batches_tracked: 0,
    });
    let mut expected = Values::new();
    for (name, of) in [
        ("y", "Y"),
        ("mean", "Mean"),
        ("inv_std", "InvStdDev"),
        ("running_mean", "running_mean"),
        ("running_var", "running_var"),
    ] {
        expected.extend(values(of).map(|values| (name, values)));
    }
    if let Some(moved) = expected.get_mut("running_var") {
        // ONNX moves by the biased variance of the batch, torch by the unbiased one.
        let count = shape.values_per_channel().expect("a small shape") as f64;
        let kept = test.momentum.expect("a momentum");
        let before = &running.as_ref().expect("an input_var").var;
        for (moved, before) in moved.iter_mut().zip(before) {
            *moved = kept * before + (*moved - kept * before) * count / (count - 1.0);
        }
    }
    // A scale of fewer values than a row is repeated along it.
    let broadcast = |values: Vec<f64>| {
        let times = shape.channels() / values.len();
        assert_eq!(times * values.len(), shape.channels(), "{}", test.name);
        values.repeat(times)
    };
    Case {
        suite: "ONNX",
        norm,
        shape,
        dtype: Dtype::F32,
        eps: test.epsilon,
        weight: values("scale").map(broadcast),
        bias: values("B").map(broadcast),
        running,
        x: values("X").expect("X"),
        dy: None,
        expected,
        bound: Bound::new(1e-5, 1e-5),
        inexpressible: None,
        name: test.name,
    }
}

/// The axes from `axis` on are a row.
fn rows(dims: &[usize], axis: Option<isize>) -> Shape {
    let axis = axis.expect("an axis");
    let axis = axis.rem_euclid(dims.len() as isize) as usize;
    Shape::nc(dims[..axis].iter().product(), dims[axis..].iter().product())
}
