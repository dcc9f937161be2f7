//! Several norms on one device: kernels of one name and of different norms are different kernels.

use crate::common::sample_norm::Tested;
use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{self, Strategy, Tuning};
use wgpu_norm::group_norm::{ForwardOptions, ForwardPlan, Layer};
use wgpu_norm::reference::batch_norm as batch;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    BatchNorm, BatchNormConfig, Caps, Form, Gpu, GroupNormConfig, InstanceNormConfig, Launch,
    LayerNormConfig, RmsNormConfig, Shape,
};

const CLOSE: Bound = Bound::new(1e-5, 1e-5);

fn check(name: &str, shape: Shape, actual: &[f32], expected: &[f64]) {
    within(name, actual, expected, CLOSE).unwrap_or_else(|error| panic!("{shape}: {error}"));
}

/// Forward and backward of the batch's norm, against its reference.
fn by_batch(gpu: &Gpu, bn: &mut BatchNorm, shape: Shape) {
    let [x, dy] = [1, 2].map(|seed| noise(seed, shape.elements().unwrap()));
    let (y, saved) = bn.train(&gpu.tensor(shape, &x).unwrap()).unwrap();
    let gradients = bn
        .backward(saved, &gpu.tensor(shape, &dy).unwrap())
        .unwrap();
    let eps = f64::from(bn.config().eps);
    let expected = batch::train(shape, &wide(&x), None, None, eps);
    check("batch y", shape, &y.read().unwrap(), &expected.y);
    let expected = batch::backward(shape, &wide(&x), &wide(&dy), None, eps);
    check(
        "batch dx",
        shape,
        &gradients.dx.read().unwrap(),
        &expected.dx,
    );
}

/// The same of another norm.
fn by_sample<C: Tested>(gpu: &Gpu, norm: &Layer<C>, shape: Shape) {
    let [x, dy] = [1, 2].map(|seed| noise(seed, shape.elements().unwrap()));
    let (y, saved) = norm.train(&gpu.tensor(shape, &x).unwrap()).unwrap();
    let gradients = norm
        .backward(saved, &gpu.tensor(shape, &dy).unwrap())
        .unwrap();
    let config = norm.config();
    let named = |what| format!("{} {what}", C::WORD);
    let expected = config.forward_of(shape, &x, None, None).y;
    check(&named("y"), shape, &y.read().unwrap(), &expected);
    let expected = config.gradients_of(shape, &x, &wide(&dy), None).dx;
    check(
        &named("dx"),
        shape,
        &gradients.dx.read().unwrap(),
        &expected,
    );
}

#[test]
fn each_norm_has_its_own_kernels_whichever_comes_first() {
    for shape in [
        Shape::nchw(3, 4, 7, 7),
        Shape::nhwc(3, 6, 6, 8),
        // One sample is one batch of instances.
        Shape::nchw(1, 16, 8, 8),
    ] {
        for turned in [false, true] {
            let gpu = gpu();
            let channels = shape.channels();
            // The same parameters, of which the kernels differ only by their norm.
            let mut bn = BatchNormConfig::new(channels).build(&gpu).unwrap();
            let group = GroupNormConfig::usual(shape).build(&gpu).unwrap();
            let instance = InstanceNormConfig::usual(shape).build(&gpu).unwrap();
            let layer = LayerNormConfig::usual(shape).build(&gpu).unwrap();
            let rms = RmsNormConfig::usual(shape).build(&gpu).unwrap();
            let mut order = [0, 1, 2, 3, 4];
            if turned {
                order.reverse();
            }
            // Twice: after the others, each finds its kernels again.
            for norm in order.repeat(2) {
                match norm {
                    0 => by_batch(&gpu, &mut bn, shape),
                    1 => by_sample(&gpu, &group, shape),
                    2 => by_sample(&gpu, &instance, shape),
                    3 => by_sample(&gpu, &layer, shape),
                    _ => by_sample(&gpu, &rms, shape),
                }
            }
        }
    }
}

fn labels_are(launches: &[Launch], norm: &str) {
    let labels: Vec<&str> = launches.iter().map(|launch| &launch.label[..]).collect();
    let names = ["stats", "finalize", "normalize"];
    assert_eq!(labels, names.map(|name| format!("{norm}.{name}")));
}

#[test]
fn labels_say_the_norm() {
    let shape = Shape::nchw(3, 4, 7, 7);
    let (caps, form) = (Caps::webgpu(), Form::default());
    let split = Tuning::default().strategy(Some(Strategy::Split));
    let config = BatchNormConfig::new(4).track_running_stats(false);
    let options = batch_norm::TrainOptions::default().tuning(split);
    let launches = batch_norm::TrainPlan::describe(&caps, shape, &config, options, form);
    labels_are(&launches.unwrap(), "batch_norm");

    fn by_sample<C: Tested>(shape: Shape, split: Tuning) {
        let options = ForwardOptions::default().tuning(split);
        let (caps, form) = (Caps::webgpu(), Form::default());
        let launches = ForwardPlan::describe(&caps, shape, &C::usual(shape), options, form);
        labels_are(&launches.unwrap(), &format!("{}_norm", C::WORD));
    }
    by_sample::<GroupNormConfig>(shape, split);
    by_sample::<InstanceNormConfig>(shape, split);
    by_sample::<LayerNormConfig>(shape, split);
    by_sample::<RmsNormConfig>(shape, split);
}
