//! Two norms on one device: kernels of one name and of different norms are different kernels.

use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{self, Strategy, Tuning};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::{batch_norm as batch, instance_norm as instance};
use wgpu_norm::{
    BatchNorm, BatchNormConfig, Caps, Form, Gpu, InstanceNorm, InstanceNormConfig, Shape,
    instance_norm,
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

/// The same of the instances' norm.
fn by_instance(gpu: &Gpu, norm: &InstanceNorm, shape: Shape) {
    let [x, dy] = [1, 2].map(|seed| noise(seed, shape.elements().unwrap()));
    let (y, saved) = norm.train(&gpu.tensor(shape, &x).unwrap()).unwrap();
    let gradients = norm
        .backward(saved, &gpu.tensor(shape, &dy).unwrap())
        .unwrap();
    let eps = f64::from(norm.config().eps);
    let expected = instance::forward(shape, &wide(&x), None, None, eps);
    check("instance y", shape, &y.read().unwrap(), &expected.y);
    let expected = instance::backward(shape, &wide(&x), &wide(&dy), None, eps);
    check(
        "instance dx",
        shape,
        &gradients.dx.read().unwrap(),
        &expected.dx,
    );
}

#[test]
fn each_norm_has_its_own_kernels_whichever_comes_first() {
    for batch_first in [true, false] {
        let gpu = gpu();
        for shape in [
            Shape::nchw(3, 4, 7, 7),
            Shape::nhwc(3, 6, 6, 8),
            Shape::nchw(2, 16, 8, 8),
            // One sample is one batch of instances.
            Shape::nchw(1, 16, 8, 8),
        ] {
            let channels = shape.channels();
            // The same parameters, of which the kernels differ only by their norm.
            let mut bn = BatchNormConfig::new(channels).build(&gpu).unwrap();
            let norm = InstanceNormConfig::new(channels)
                .affine(true)
                .build(&gpu)
                .unwrap();
            for step in 0..4 {
                if batch_first == (step % 2 == 0) {
                    by_batch(&gpu, &mut bn, shape);
                } else {
                    by_instance(&gpu, &norm, shape);
                }
            }
        }
    }
}

#[test]
fn labels_say_the_norm() {
    let shape = Shape::nchw(3, 4, 7, 7);
    let (caps, form) = (Caps::webgpu(), Form::default());
    let split = Tuning::default().strategy(Some(Strategy::Split));
    let batch = BatchNormConfig::new(4).track_running_stats(false);
    let options = batch_norm::TrainOptions::default().tuning(split);
    let batch = batch_norm::TrainPlan::describe(&caps, shape, &batch, options, form).unwrap();
    let instance = InstanceNormConfig::new(4).affine(true);
    let options = instance_norm::ForwardOptions::default().tuning(split);
    let plan = instance_norm::ForwardPlan::describe(&caps, shape, &instance, options, form);
    let plan = plan.unwrap();
    let names = ["stats", "finalize", "normalize"];
    let labels = |norm: &str| names.map(|name| format!("{norm}.{name}")).to_vec();
    let of = |launches: &[wgpu_norm::Launch]| -> Vec<String> {
        launches.iter().map(|launch| launch.label.clone()).collect()
    };
    assert_eq!(of(&batch), labels("batch_norm"));
    assert_eq!(of(&plan), labels("instance_norm"));
}
