//! The cases of web-platform-tests' conformance tests for WebNN, by name, shape and options. `webnn.py` computed their
//! outputs.

use serde::Deserialize;
use wgpu_norm::reference::batch_norm::Running;
use wgpu_norm::reference::compare::Bound;
use wgpu_norm::{Dtype, Layout, Shape};

use super::case::{Case, Norm, Values};
use crate::common::fixtures::{Fixtures, draw};

/// A case of `webnn.py`, with the operator's options.
#[derive(Debug, Deserialize)]
struct Test {
    name: String,
    operator: String,
    dtype: String,
    shape: Vec<usize>,
    scale: bool,
    bias: bool,
    epsilon: f64,
    /// The input is a few of these units.
    ulp: Option<f64>,
    /// An operator that follows.
    then: Option<String>,
    /// The channels of batchNormalization.
    axis: Option<usize>,
    /// That of instanceNormalization.
    layout: Option<String>,
    /// The axes of a statistic, in the order that scale and bias have them, of layerNormalization.
    axes: Option<Vec<usize>>,
}

pub fn cases() -> Vec<Case> {
    let file = include_bytes!("../fixtures/webnn.safetensors");
    let fixtures = Fixtures::new(file, include_bytes!("../fixtures/webnn.py"));
    let tests: Vec<Test> = fixtures.json("cases");
    let cases = tests
        .into_iter()
        .enumerate()
        .map(|(index, test)| case(&fixtures, index, test))
        .collect();
    fixtures.check_all_used();
    cases
}

fn case(fixtures: &Fixtures, index: usize, test: Test) -> Case {
    let dims = &test.shape;
    let mut inexpressible = test.then.is_some().then_some("another operator follows");
    let (norm, shape) = match test.operator.as_str() {
        "batchNormalization" => {
            let norm = Norm::Batch {
                training: false,
                momentum: None,
            };
            let shape = match test.axis {
                Some(0) => Ok(Shape::nc(1, dims[0])),
                Some(1) => Shape::from_dims(dims, Layout::ChannelsFirst),
                _ => Shape::from_dims(dims, Layout::ChannelsLast),
            };
            (norm, shape.expect("up to five axes"))
        }
        "instanceNormalization" => {
            let layout = match test.layout.as_deref() {
                Some("nchw") => Layout::ChannelsFirst,
                _ => Layout::ChannelsLast,
            };
            let shape = Shape::from_dims(dims, layout).expect("four axes");
            (Norm::Instance, shape)
        }
        _ => rows(&test).unwrap_or_else(|| {
            inexpressible = Some("a weight or bias along axes that are not innermost");
            let size = dims.iter().product();
            (Norm::Layer, Shape::nc(1, size))
        }),
    };
    let dtype = match test.dtype.as_str() {
        "float32" => Dtype::F32,
        _ => Dtype::F16,
    };
    let stored = |value: f64| match dtype {
        Dtype::F32 => f64::from(value as f32),
        _ => half::f16::from_f32(value as f32).into(),
    };
    let values = |seed, count, of: fn(f64) -> f64| -> Vec<f64> {
        let drawn = draw(8 * index as u64 + seed, count).into_iter();
        drawn.map(|v| stored(of(v))).collect()
    };
    let count = shape.elements().expect("a small shape");
    let x = match test.ulp {
        None => values(1, count, |v| 9.0 * v),
        Some(ulp) => values(1, count, |v| (3.0 * v).ceil())
            .into_iter()
            .map(|v| ulp * v)
            .collect(),
    };
    let channels = shape.channels();
    let parameter = |present: bool, seed, of: fn(f64) -> f64| {
        present.then(|| in_memory(&test, &values(seed, channels, of)))
    };
    let running = matches!(norm, Norm::Batch { .. }).then(|| Running {
        mean: values(2, channels, |v| 9.0 * v),
        var: values(3, channels, |v| 1.5 + v),
        num_batches_tracked: 0,
    });
    let y = fixtures.values(&index.to_string()).expect("an output");
    Case {
        suite: "WebNN",
        norm,
        shape,
        dtype,
        eps: test.epsilon,
        weight: parameter(test.scale, 4, |v| 1.5 + v),
        bias: parameter(test.bias, 5, |v| v),
        running,
        x,
        dy: None,
        expected: Values::from([("y", y)]),
        bound: Bound::new(1e-12, 1e-12),
        inexpressible,
        name: test.name,
    }
}

/// The norm that layerNormalization over these axes is: LayerNorm if they are innermost, and without weight and bias
/// InstanceNorm in channels last if others are.
fn rows(test: &Test) -> Option<(Norm, Shape)> {
    let (dims, mut axes) = (&test.shape, test.axes.clone().expect("axes"));
    axes.sort_unstable();
    let end = axes.last().map_or(dims.len(), |last| last + 1);
    let begin = end - axes.len();
    let neighbours = axes.iter().copied().eq(begin..end);
    let [outer, size, inner] =
        [&dims[..begin], &dims[begin..end], &dims[end..]].map(|dims| dims.iter().product());
    match (neighbours, inner) {
        (true, 1) => Some((Norm::Layer, Shape::nc(outer, size))),
        (true, _) if !test.scale && !test.bias => {
            Some((Norm::Instance, Shape::nlc(outer, size, inner)))
        }
        _ => None,
    }
}

/// Values of scale or bias as they lie in memory: for the axes in their own order.
fn in_memory(test: &Test, values: &[f64]) -> Vec<f64> {
    let Some(axes) = &test.axes else {
        return values.to_vec();
    };
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    let extent = |axis: usize| test.shape[axis];
    let value = |index: usize| {
        // The position along each axis, the last of which varies fastest.
        let mut rest = index;
        let mut position = vec![0; test.shape.len()];
        for &axis in sorted.iter().rev() {
            position[axis] = rest % extent(axis);
            rest /= extent(axis);
        }
        let at = axes
            .iter()
            .fold(0, |at, &axis| at * extent(axis) + position[axis]);
        values[at]
    };
    (0..values.len()).map(value).collect()
}
