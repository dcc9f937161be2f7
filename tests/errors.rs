//! How far f32 is from f64, for values around zero and for values with a mean of ten thousand deviations.

use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig, Shape, Tensor,
};

use crate::common::sample_norm::Tested;
use crate::common::{gpu, noise, wide};

/// Rows of 1,024 values, and groups of 8 channels of 14 by 14.
const ROWS: Shape = Shape::nc(256, 1024);
const IMAGES: Shape = Shape::nchw(8, 64, 14, 14);

fn errors_are_small<C: Tested>(name: &str, shape: Shape, config: C) {
    let gpu = gpu();
    for mean in [0.0, 1e4] {
        // Noise between -1 and 1 has a variance of one third.
        let values = |seed| noise(seed, shape.elements().unwrap());
        let x: Vec<f32> = values(1).iter().map(|v| mean + 3f32.sqrt() * v).collect();
        let dy = values(2);
        let weight: Vec<f32> = noise(3, config.parameter_count())
            .iter()
            .map(|v| 1.0 + v / 2.0)
            .collect();
        let mut norm = config.make(&gpu).unwrap();
        norm.set_weight(&weight).unwrap();
        let tensor = |values: &[f32]| gpu.tensor(shape, values).unwrap();
        let (y, saved) = norm.train(&tensor(&x)).unwrap();
        let gradients = norm.backward(saved, &tensor(&dy)).unwrap();

        let forward = config.forward_of(shape, &x, Some(&weight), None);
        let expected = config.gradients_of(shape, &x, &wide(&dy), Some(&weight));
        let read = |tensor: &Tensor| tensor.read().unwrap();
        let results = [
            ("y", read(&y), forward.y),
            ("dx", read(&gradients.dx), expected.dx),
            (
                "dweight",
                gradients.weight().unwrap().unwrap(),
                expected.dweight,
            ),
        ];
        for (result, actual, expected) in results {
            let largest = expected.iter().fold(0f64, |most, v| most.max(v.abs()));
            let bound = Bound::new(0.0, 4e-7 * largest);
            let worst = within(result, &actual, &expected, bound);
            let worst = worst.unwrap_or_else(|error| panic!("{name}, mean {mean}: {error}"));
            println!(
                "{name}, mean {mean}: {result} {:.1e}",
                worst.error / largest
            );
        }
    }
}

#[test]
fn errors_of_layer_norm_are_small() {
    errors_are_small("layer", ROWS, LayerNormConfig::new(1024));
}

#[test]
fn errors_of_rms_norm_are_small() {
    errors_are_small("rms", ROWS, RmsNormConfig::new(1024).eps(1e-5));
}

#[test]
fn errors_of_group_norm_are_small() {
    errors_are_small("group", IMAGES, GroupNormConfig::new(8, 64));
}

#[test]
fn errors_of_instance_norm_are_small() {
    errors_are_small("instance", IMAGES, InstanceNormConfig::new(64).affine(true));
}
