//! Norms that are one another's special cases, and what replacing one by another keeps.

use crate::common::sample_norm::Tested;
use crate::common::{blank, download, gpu, noise, wide};
use wgpu_norm::batch_norm::{self, TrainBuffers, TrainPlan};
use wgpu_norm::group_norm::{ForwardBuffers, ForwardPlan, Layer};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    BatchNormConfig, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig,
    Shape,
};

/// Two sums of the same values in different orders.
const CLOSE: Bound = Bound::new(2e-6, 2e-6);

/// What a pass in training makes of noise, and of the gradient `dy` of its output.
#[derive(Debug)]
struct Results {
    y: Vec<f32>,
    dx: Vec<f32>,
    dweight: Option<Vec<f32>>,
    dbias: Option<Vec<f32>>,
}

impl Results {
    fn are(&self, other: &Self, what: &str) {
        let rows = |results: &Self| {
            let row = |row: &Option<Vec<f32>>| row.clone().unwrap_or_default();
            [row(&results.dweight), row(&results.dbias)].concat()
        };
        for (name, actual, expected, bound) in [
            ("y", &self.y, &other.y, CLOSE),
            ("dx", &self.dx, &other.dx, Bound::new(1e-5, 1e-5)),
            (
                "gradients",
                &rows(self),
                &rows(other),
                Bound::new(1e-5, 1e-4),
            ),
        ] {
            within(name, actual, &wide(expected), bound)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }
}

fn by_sample<C: Tested>(
    gpu: &Gpu,
    norm: &Layer<C>,
    shape: Shape,
    x: &[f32],
    dy: &[f32],
) -> Results {
    let (y, saved) = norm.train(&gpu.tensor(shape, x).unwrap()).unwrap();
    let dy = gpu.tensor(shape, dy).unwrap();
    let gradients = norm.backward(saved, &dy).unwrap();
    Results {
        y: y.read().unwrap(),
        dx: gradients.dx.read().unwrap(),
        dweight: gradients.weight().unwrap(),
        dbias: gradients.bias().unwrap(),
    }
}

fn by_batch(gpu: &Gpu, config: BatchNormConfig, shape: Shape, x: &[f32], dy: &[f32]) -> Results {
    let mut norm = config.build(gpu).unwrap();
    let (y, saved) = norm.train(&gpu.tensor(shape, x).unwrap()).unwrap();
    let dy = gpu.tensor(shape, dy).unwrap();
    let gradients = norm.backward(saved, &dy).unwrap();
    Results {
        y: y.read().unwrap(),
        dx: gradients.dx.read().unwrap(),
        dweight: gradients.weight().unwrap(),
        dbias: gradients.bias().unwrap(),
    }
}

/// Means and reciprocal deviations, as forward saves them.
fn statistics<C: Tested>(gpu: &Gpu, config: C, shape: Shape, x: &[f32]) -> Vec<f32> {
    let config = config.parameters(false, false);
    let plan = ForwardPlan::new(gpu.kernels(), shape, &config).unwrap();
    let x = gpu.tensor(shape, x).unwrap();
    let y = blank(gpu, plan.activation_bytes());
    let saved = blank(gpu, plan.saved_bytes());
    let scratch = blank(gpu, plan.scratch_bytes());
    let buffers = ForwardBuffers::new(x.buffer().slice(..), y.slice(..), saved.slice(..));
    let step = plan.bind(&buffers.scratch(scratch.slice(..))).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    step.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    let rows = config.saved(shape);
    download(gpu, &saved, rows.inv_std.end as usize / 4)
}

/// The same of BatchNorm in training.
fn batch_statistics(gpu: &Gpu, shape: Shape, x: &[f32]) -> Vec<f32> {
    let config = BatchNormConfig::new(shape.channels())
        .affine(false)
        .track_running_stats(false);
    let plan = TrainPlan::new(gpu.kernels(), shape, &config).unwrap();
    let x = gpu.tensor(shape, x).unwrap();
    let y = blank(gpu, plan.activation_bytes());
    let saved = blank(gpu, plan.saved_bytes());
    let scratch = blank(gpu, plan.scratch_bytes());
    let buffers = TrainBuffers::new(x.buffer().slice(..), y.slice(..), saved.slice(..));
    let step = plan.bind(&buffers.scratch(scratch.slice(..))).unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    step.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    download(gpu, &saved, config.saved_rows().inv_std.end as usize / 4)
}

fn alike(name: &str, actual: &[f32], expected: &[f32]) {
    within(name, actual, &wide(expected), CLOSE).unwrap();
}

const SHAPES: [Shape; 3] = [
    Shape::nchw(3, 6, 7, 7),
    Shape::nchw(2, 12, 8, 8),
    Shape::ncl(4, 8, 17),
];

/// Samples, channels, and the values of a channel in a sample.
fn extents(shape: Shape) -> [usize; 3] {
    [shape.batch(), shape.channels(), shape.plane().unwrap()]
}

fn inputs(shape: Shape) -> [Vec<f32>; 2] {
    [1, 2].map(|seed| noise(seed, shape.elements().unwrap()))
}

#[test]
fn group_norm_with_one_group_is_layer_norm_over_the_sample() {
    let gpu = gpu();
    for shape in SHAPES {
        let [x, dy] = inputs(shape);
        let [n, c, s] = extents(shape);
        let group = GroupNormConfig::new(1, c).affine(false);
        let layer = LayerNormConfig::new(c * s).affine(false);
        let flat = Shape::nc(n, c * s);
        alike(
            "statistics",
            &statistics(&gpu, group, shape, &x),
            &statistics(&gpu, layer, flat, &x),
        );
        let (group, layer) = (group.build(&gpu).unwrap(), layer.build(&gpu).unwrap());
        let expected = by_sample(&gpu, &layer, flat, &x, &dy);
        by_sample(&gpu, &group, shape, &x, &dy).are(&expected, &shape.to_string());
        // The rows of a tensor that is not flat are the same.
        by_sample(&gpu, &layer, shape, &x, &dy).are(&expected, &shape.to_string());
    }
}

#[test]
fn group_norm_with_a_group_for_each_channel_is_instance_norm() {
    let gpu = gpu();
    for shape in SHAPES.into_iter().chain([Shape::nhwc(2, 6, 6, 8)]) {
        let [x, dy] = inputs(shape);
        let c = shape.channels();
        let (weight, bias) = (noise(3, c), noise(4, c));
        let mut group = GroupNormConfig::new(c, c).build(&gpu).unwrap();
        let mut instance = InstanceNormConfig::new(c).affine(true).build(&gpu).unwrap();
        group.set_weight(&weight).unwrap();
        group.set_bias(&bias).unwrap();
        instance.set_weight(&weight).unwrap();
        instance.set_bias(&bias).unwrap();
        let expected = by_sample(&gpu, &instance, shape, &x, &dy);
        by_sample(&gpu, &group, shape, &x, &dy).are(&expected, &shape.to_string());
    }
}

#[test]
fn instance_norm_is_batch_norm_of_one_sample_with_a_channel_for_each_instance() {
    let gpu = gpu();
    for shape in SHAPES {
        let [x, dy] = inputs(shape);
        let [n, c, s] = extents(shape);
        let one = Shape::ncl(1, n * c, s);
        let batch = BatchNormConfig::new(n * c).affine(false);
        let instance = InstanceNormConfig::new(c);
        let expected = by_batch(&gpu, batch, one, &x, &dy);
        let instance = instance.build(&gpu).unwrap();
        by_sample(&gpu, &instance, shape, &x, &dy).are(&expected, &shape.to_string());
    }
}

#[test]
fn groups_have_the_statistics_of_batch_norm_with_a_channel_for_each_group() {
    let gpu = gpu();
    for shape in SHAPES {
        let [x, dy] = inputs(shape);
        let [n, c, s] = extents(shape);
        for groups in [1, 2, c] {
            let one = Shape::ncl(1, n * groups, c / groups * s);
            let group = GroupNormConfig::new(groups, c).affine(false);
            alike(
                "statistics",
                &statistics(&gpu, group, shape, &x),
                &batch_statistics(&gpu, one, &x),
            );
            let batch = BatchNormConfig::new(n * groups).affine(false);
            let expected = by_batch(&gpu, batch, one, &x, &dy);
            let group = group.build(&gpu).unwrap();
            by_sample(&gpu, &group, shape, &x, &dy).are(&expected, &shape.to_string());
        }
    }
}

/// Values and gradients with a mean of exactly zero: each comes with its negative.
#[test]
fn rms_norm_is_layer_norm_where_means_are_zero() {
    let gpu = gpu();
    for (rows, size) in [(5, 96), (32, 14), (3, 1000)] {
        let shape = Shape::nc(rows, size);
        let pairs = |seed| -> Vec<f32> {
            let halves = noise(seed, rows * size / 2);
            halves.into_iter().flat_map(|v| [v, -v]).collect()
        };
        let (x, dy) = (pairs(1), pairs(2));
        let layer = LayerNormConfig::new(size).affine(false);
        let rms = RmsNormConfig::new(size).weight(false).eps(layer.eps);
        let (layer, rms) = (layer.build(&gpu).unwrap(), rms.build(&gpu).unwrap());
        let expected = by_sample(&gpu, &layer, shape, &x, &dy);
        by_sample(&gpu, &rms, shape, &x, &dy).are(&expected, &shape.to_string());
    }
}

/// A weight is one for a channel in all of these, so that a trained layer's is taken over as it is.
#[test]
fn replacing_batch_norm_keeps_weight_and_bias() -> Result<(), wgpu_norm::Error> {
    let gpu = gpu();
    let (shape, c) = (Shape::nhwc(2, 5, 5, 12), 12);
    let mut bn = BatchNormConfig::new(c).build(&gpu)?;
    let (weight, bias) = (noise(1, c), noise(2, c));
    bn.set_weight(&weight)?;
    bn.set_bias(&bias)?;

    fn replaced<C: Tested>(
        gpu: &Gpu,
        trained: &batch_norm::State,
        config: C,
    ) -> Result<Layer<C>, wgpu_norm::Error> {
        let mut norm = config.make(gpu)?;
        if let Some(weight) = &trained.weight {
            norm.set_weight(weight)?;
        }
        if let Some(bias) = &trained.bias {
            norm.set_bias(bias)?;
        }
        Ok(norm)
    }
    fn follows<C: Tested>(gpu: &Gpu, norm: &Layer<C>, shape: Shape, weight: &[f32], bias: &[f32]) {
        let [x, _] = inputs(shape);
        let y = norm.eval(&gpu.tensor(shape, &x).unwrap()).unwrap();
        let config = norm.config();
        let expected = config.forward_of(shape, &x, Some(weight), Some(bias)).y;
        let bound = Bound::new(1e-5, 1e-5);
        within("y", &y.read().unwrap(), &expected, bound).unwrap();
    }
    let (eps, trained) = (bn.config().eps, bn.state()?);
    let norm = replaced(&gpu, &trained, GroupNormConfig::new(4, c).eps(eps))?;
    follows(&gpu, &norm, shape, &weight, &bias);
    let instance = InstanceNormConfig::new(c).affine(true).eps(eps);
    follows(
        &gpu,
        &replaced(&gpu, &trained, instance)?,
        shape,
        &weight,
        &bias,
    );
    // Rows of the channels, which are innermost here.
    let norm = replaced(&gpu, &trained, LayerNormConfig::new(c).eps(eps))?;
    follows(&gpu, &norm, shape, &weight, &bias);
    Ok(())
}
