//! How far f32 is from f64: for values around zero, for values with a mean of ten thousand deviations, and for f16 near its
//! largest.

use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    Dtype, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Problem, RmsNormConfig, Shape,
    Tensor,
};

use crate::common::sample_norm::Tested;
use crate::common::{gpu, noise, wide};

/// Rows of 1,024 values, and groups of 8 channels of 14 by 14.
const ROWS: Shape = Shape::nc(256, 1024);
const IMAGES: Shape = Shape::nchw(8, 64, 14, 14);

/// What the values are like.
#[derive(Clone, Copy)]
struct Values {
    name: &'static str,
    dtype: Dtype,
    /// Of noise between -1 and 1, which has a variance of one third.
    of: fn(f32) -> f32,
    /// The largest gradient of the output.
    dy: f32,
}

const ZERO: Values = Values {
    name: "mean 0",
    dtype: Dtype::F32,
    of: |v| 3f32.sqrt() * v,
    dy: 1.0,
};

const FAR: Values = Values {
    name: "mean 1e4",
    of: |v| 1e4 + 3f32.sqrt() * v,
    ..ZERO
};

/// The eight largest of f16, and all of them. Gradients are so large that few of those of the input are subnormal.
const NEAR_THE_LIMIT: [Values; 2] = [
    Values {
        name: "f16, 65,280 to 65,504",
        dtype: Dtype::F16,
        of: |v| 65_504.0 - 32.0 * (4.0 * (v + 1.0)).floor(),
        dy: 256.0,
    },
    Values {
        name: "f16, -65,504 to 65,504",
        dtype: Dtype::F16,
        of: |v| 65_504.0 * v,
        dy: 256.0,
    },
];

fn errors_are_small<C: Tested>(name: &str, shape: Shape, config: C, values: &[Values]) {
    let gpu = gpu();
    for like in values {
        let problem = Problem::new(shape, like.dtype);
        let tensor = |values: &[f32]| gpu.tensor(problem, values).unwrap();
        let stored = |values: Vec<f32>| {
            let tensor = tensor(&values);
            (tensor.read().unwrap(), tensor)
        };
        let noise_of = |seed| noise(seed, shape.elements().unwrap()).into_iter();
        let (x, x_tensor) = stored(noise_of(1).map(like.of).collect());
        let (dy, dy_tensor) = stored(noise_of(2).map(|v| like.dy * v).collect());
        let weight: Vec<f32> = noise(3, config.parameter_count())
            .iter()
            .map(|v| 1.0 + v / 2.0)
            .collect();
        let mut norm = config.make(&gpu).unwrap();
        norm.set_weight(&weight).unwrap();
        let (y, saved) = norm.train(&x_tensor).unwrap();
        let gradients = norm.backward(saved, &dy_tensor).unwrap();

        let forward = config.forward_of(shape, &x, Some(&weight), None);
        let expected = config.gradients_of(shape, &x, &wide(&dy), Some(&weight));
        let read = |tensor: &Tensor| tensor.read().unwrap();
        // Activations are rounded once: by half a unit of the last place, or of the smallest subnormal.
        let once = match like.dtype {
            Dtype::F16 => Bound::new(2f64.powi(-11), 2f64.powi(-25)),
            _ => Bound::EXACT,
        };
        let results = [
            ("y", read(&y), forward.y, once),
            ("dx", read(&gradients.dx), expected.dx, once),
            (
                "dweight",
                gradients.weight().unwrap().unwrap(),
                expected.dweight,
                Bound::EXACT,
            ),
        ];
        for (result, actual, expected, rounding) in results {
            let largest = expected.iter().fold(0f64, |most, v| most.max(v.abs()));
            let bound = Bound::new(rounding.relative, rounding.absolute + 4e-7 * largest);
            within(result, &actual, &expected, bound)
                .unwrap_or_else(|error| panic!("{name}, {}: {error}", like.name));
            let pairs = wide(&actual).into_iter().zip(&expected);
            let error = pairs.fold(0f64, |most, (a, b)| most.max((a - b).abs()));
            println!("{name}, {}: {result} {:.1e}", like.name, error / largest);
        }
    }
}

#[test]
fn errors_of_layer_norm_are_small() {
    errors_are_small("layer", ROWS, LayerNormConfig::new(1024), &[ZERO, FAR]);
}

#[test]
fn errors_of_rms_norm_are_small() {
    let config = RmsNormConfig::new(1024).eps(1e-5);
    errors_are_small("rms", ROWS, config, &[ZERO, FAR]);
}

#[test]
fn errors_of_group_norm_are_small() {
    errors_are_small("group", IMAGES, GroupNormConfig::new(8, 64), &[ZERO, FAR]);
}

#[test]
fn errors_of_instance_norm_are_small() {
    let config = InstanceNormConfig::new(64).affine(true);
    errors_are_small("instance", IMAGES, config, &[ZERO, FAR]);
}

#[test]
fn errors_near_the_largest_f16_are_small() {
    let (layer, rms) = (LayerNormConfig::new(1024), RmsNormConfig::new(1024));
    errors_are_small("layer", ROWS, layer, &NEAR_THE_LIMIT);
    errors_are_small("rms", ROWS, rms, &NEAR_THE_LIMIT);
}
