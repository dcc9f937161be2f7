//! The input of both sides, and what they must make of it.

use std::iter;

use wgpu_norm::reference::compare::{Bound, Mismatch, within};
use wgpu_norm::reference::{self, batch_norm, group_norm, instance_norm, layer_norm, rms_norm};

use crate::Result;
use crate::problem::{Norm, Problem};

pub struct Case {
    pub problem: Problem,
    /// x, and with `prenorm` the residual that is added to it.
    pub inputs: Vec<Vec<f32>>,
    /// The gradient of each output.
    pub incoming: Vec<Vec<f32>>,
    pub weight: Vec<f32>,
    /// RMSNorm does not use it.
    pub bias: Vec<f32>,
    expected: Outcome<f64>,
}

/// What a layer computes.
pub struct Outcome<T> {
    /// y, and with `prenorm` the sum that was normalized.
    pub outputs: Vec<Vec<T>>,
    /// Of x, which with `prenorm` is that of the residual, too; of the weight; and of the bias if there is one.
    pub gradients: Vec<Vec<T>>,
}

impl Case {
    pub fn new(problem: Problem) -> Result<Self> {
        let elements = problem.shape.elements().ok_or("the shape overflows")?;
        let parameters = problem.parameters();
        let (weight, bias) = (noise(3, parameters), noise(4, parameters));
        let (mut inputs, mut incoming) = (vec![noise(1, elements)], vec![noise(2, elements)]);
        if problem.prenorm {
            inputs.push(noise(5, elements));
            incoming.push(noise(6, elements));
        }
        let added = inputs.get(1).map(|residual| {
            let pairs = inputs[0].iter().zip(residual);
            // As it is stored.
            pairs.map(|(x, residual)| x + residual).collect::<Vec<_>>()
        });
        let x = wide(added.as_ref().unwrap_or(&inputs[0]));
        let (y, mut gradients) = reference(
            &problem,
            &x,
            &wide(&incoming[0]),
            &wide(&weight),
            &wide(&bias),
        );
        let mut outputs = vec![y];
        if let Some(dadded) = incoming.get(1) {
            outputs.push(x);
            let dx = gradients[0].iter_mut();
            dx.zip(dadded)
                .for_each(|(dx, dadded)| *dx += f64::from(*dadded));
        }
        Ok(Self {
            problem,
            inputs,
            incoming,
            weight,
            bias,
            expected: Outcome { outputs, gradients },
        })
    }

    /// The first value that is wrong, of the outputs and of the gradients.
    pub fn faults(&self, actual: &Outcome<f32>) -> [Option<Mismatch>; 2] {
        let per_parameter = self.inputs[0].len() as f64 / self.weight.len().max(1) as f64;
        let each = Bound::new(1e-4, 1e-4);
        // Sums of so many values, of either sign.
        let sums = Bound::new(1e-4, 1e-6 * per_parameter);
        let expected = &self.expected;
        [
            fault(
                &[("y", each), ("added", Bound::EXACT)],
                &actual.outputs,
                &expected.outputs,
            ),
            fault(
                &[("dx", each), ("dweight", sums), ("dbias", sums)],
                &actual.gradients,
                &expected.gradients,
            ),
        ]
    }
}

/// The first value that is wrong, or the first tensor of another length. One that is missing has no values.
fn fault(names: &[(&str, Bound)], actual: &[Vec<f32>], expected: &[Vec<f64>]) -> Option<Mismatch> {
    let actual = actual
        .iter()
        .map(Vec::as_slice)
        .chain(iter::repeat(&[][..]));
    let mut tensors = names.iter().zip(expected).zip(actual);
    tensors.find_map(|((&(name, bound), expected), actual)| {
        within(name, actual, expected, bound).err()
    })
}

/// `count` values in [-1, 1), which f32 represents exactly.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    reference::noise(seed, count).map(|v| v as f32).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// y, and the gradients of x, the weight and the bias if there is one.
fn reference(
    problem: &Problem,
    x: &[f64],
    dy: &[f64],
    weight: &[f64],
    bias: &[f64],
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (shape, w, b) = (problem.shape, Some(weight), Some(bias));
    match problem.norm {
        Norm::Batch(config) => {
            let eps = config.eps.into();
            let made = batch_norm::backward(shape, x, dy, w, eps);
            let y = batch_norm::train(shape, x, w, b, eps).y;
            (y, vec![made.dx, made.dweight, made.dbias])
        }
        Norm::Group(config) => {
            let (groups, eps) = (config.num_groups, config.eps.into());
            let made = group_norm::backward(shape, groups, x, dy, w, eps);
            let y = group_norm::forward(shape, groups, x, w, b, eps).y;
            (y, vec![made.dx, made.dweight, made.dbias])
        }
        Norm::Instance(config) => {
            let eps = config.eps.into();
            let made = instance_norm::backward(shape, x, dy, w, eps);
            let y = instance_norm::forward(shape, x, w, b, eps).y;
            (y, vec![made.dx, made.dweight, made.dbias])
        }
        Norm::Layer(config) => {
            let (size, eps) = (config.normalized_size, config.eps.into());
            let made = layer_norm::backward(size, x, dy, w, eps);
            let y = layer_norm::forward(size, x, w, b, eps).y;
            (y, vec![made.dx, made.dweight, made.dbias])
        }
        Norm::Rms(config) => {
            let (size, eps) = (config.normalized_size, config.eps.into());
            let made = rms_norm::backward(size, x, dy, w, eps);
            let y = rms_norm::forward(size, x, w, None, eps).y;
            (y, vec![made.dx, made.dweight])
        }
    }
}
