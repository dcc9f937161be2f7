//! burn's side: its layers, in training.

use burn::module::Param;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use burn_nn::{
    BatchNorm, BatchNormConfig, GroupNorm, GroupNormConfig, InstanceNorm, InstanceNormConfig,
    LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig,
};

use crate::Result;
use crate::case::{Case, Outcome};
use crate::problem::{Norm, Problem};

/// A layer over tensors of any rank.
pub trait Peer {
    fn forward(&self) -> Result<()>;

    /// Forward and backward.
    fn both(&self) -> Result<()>;

    /// What bringing in the gradients of the outputs takes by itself.
    fn incoming(&self) -> Result<()>;

    fn outcome(&self) -> Result<Outcome<f32>>;
}

/// The layer of a case.
pub fn of(device: &Device, case: &Case) -> Result<Box<dyn Peer>> {
    Ok(match *case.problem.dims() {
        [a, b] => Box::new(Burn::new(device, case, [a, b])),
        [a, b, c] => Box::new(Burn::new(device, case, [a, b, c])),
        [a, b, c, d] => Box::new(Burn::new(device, case, [a, b, c, d])),
        [a, b, c, d, e] => Box::new(Burn::new(device, case, [a, b, c, d, e])),
        _ => return Err("burn's tensors have 2 to 5 axes here".into()),
    })
}

/// A layer over tensors of rank `D`.
struct Burn<const D: usize> {
    device: Device,
    layer: Module,
    /// Weight and bias. RMSNorm does not use the bias.
    parameters: [Param<Tensor<1>>; 2],
    inputs: Vec<Tensor<D>>,
    incoming: Vec<Tensor<D>>,
}

impl<const D: usize> Burn<D> {
    fn new(device: &Device, case: &Case, dims: [usize; D]) -> Self {
        let device = device.clone().autodiff();
        let all = |values: &[Vec<f32>]| {
            let tensor = |values: &Vec<f32>| {
                Tensor::from_data(TensorData::new(values.clone(), dims), &device)
            };
            values.iter().map(tensor).collect()
        };
        let parameters = [&case.weight, &case.bias].map(|values| {
            let data = TensorData::new(values.clone(), [values.len()]);
            Param::from_tensor(Tensor::from_data(data, &device))
        });
        Self {
            layer: Module::new(&case.problem, parameters.clone(), &device),
            inputs: all(&case.inputs),
            incoming: all(&case.incoming),
            parameters,
            device,
        }
    }

    /// The inputs, as leaves whose gradients are kept.
    fn leaves(&self) -> Vec<Tensor<D>> {
        let leaf = |input: &Tensor<D>| input.clone().require_grad();
        self.inputs.iter().map(leaf).collect()
    }

    /// y, and with `prenorm` the sum that was normalized.
    fn outputs(&self, inputs: &[Tensor<D>]) -> Vec<Tensor<D>> {
        match inputs {
            [x, residual] => {
                let added = x.clone() + residual.clone();
                vec![self.layer.forward(added.clone()), added]
            }
            _ => inputs
                .iter()
                .map(|x| self.layer.forward(x.clone()))
                .collect(),
        }
    }

    /// burn's backward begins with ones; products bring in other gradients.
    fn gradients(&self, outputs: &[Tensor<D>]) -> Option<Gradients> {
        let pairs = outputs.iter().zip(&self.incoming);
        let products = pairs.map(|(output, incoming)| output.clone() * incoming.clone());
        let loss = products.reduce(|sum, product| sum + product)?;
        Some(loss.backward())
    }
}

/// What was computed is held until the device is done, so that nothing is left out.
impl<const D: usize> Peer for Burn<D> {
    fn forward(&self) -> Result<()> {
        let _held = self.outputs(&self.inputs);
        Ok(self.device.sync()?)
    }

    fn both(&self) -> Result<()> {
        let leaves = self.leaves();
        let outputs = self.outputs(&leaves);
        let gradients = self.gradients(&outputs);
        let _held = (leaves, outputs, gradients);
        Ok(self.device.sync()?)
    }

    fn incoming(&self) -> Result<()> {
        let leaves = self.leaves();
        let gradients = self.gradients(&leaves);
        let _held = (leaves, gradients);
        Ok(self.device.sync()?)
    }

    fn outcome(&self) -> Result<Outcome<f32>> {
        let leaves = self.leaves();
        let outputs = self.outputs(&leaves);
        let gradients = self.gradients(&outputs).ok_or("no outputs")?;
        let mut made = vec![values(leaves[0].grad(&gradients).ok_or("no gradient")?)?];
        for parameter in &self.parameters {
            let gradient = parameter.val().grad(&gradients).map(values);
            made.extend(gradient.transpose()?);
        }
        Ok(Outcome {
            outputs: outputs.into_iter().map(values).collect::<Result<_>>()?,
            gradients: made,
        })
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>> {
    let values = tensor.into_data().try_to_vec::<f32>();
    values.map_err(|error| format!("{error:?}").into())
}

/// The layer of any norm.
enum Module {
    Batch(BatchNorm),
    Group(GroupNorm),
    Instance(InstanceNorm),
    Layer(LayerNorm),
    Rms(RmsNorm),
}

impl Module {
    fn new(problem: &Problem, [weight, bias]: [Param<Tensor<1>>; 2], device: &Device) -> Self {
        let parameters = problem.parameters();
        match problem.norm {
            Norm::Batch(config) => {
                let made = BatchNormConfig::new(parameters).with_epsilon(config.eps.into());
                Self::Batch(BatchNorm {
                    gamma: weight,
                    beta: bias,
                    ..made.init(device)
                })
            }
            Norm::Group(config) => {
                let made = GroupNormConfig::new(config.num_groups, parameters);
                Self::Group(GroupNorm {
                    gamma: Some(weight),
                    beta: Some(bias),
                    ..made.with_epsilon(config.eps.into()).init(device)
                })
            }
            Norm::Instance(config) => {
                let made = InstanceNormConfig::new(parameters).with_epsilon(config.eps.into());
                Self::Instance(InstanceNorm {
                    gamma: Some(weight),
                    beta: Some(bias),
                    ..made.init(device)
                })
            }
            Norm::Layer(config) => {
                let made = LayerNormConfig::new(parameters).with_epsilon(config.eps.into());
                let mut layer = made.init(device);
                (layer.gamma, layer.beta) = (weight, Some(bias));
                Self::Layer(layer)
            }
            Norm::Rms(config) => {
                let made = RmsNormConfig::new(parameters).with_epsilon(config.eps.into());
                Self::Rms(RmsNorm {
                    gamma: weight,
                    ..made.init(device)
                })
            }
        }
    }

    fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Batch(layer) => layer.forward(x),
            Self::Group(layer) => layer.forward(x),
            Self::Instance(layer) => layer.forward(x),
            Self::Layer(layer) => layer.forward(x),
            Self::Rms(layer) => layer.forward(x),
        }
    }
}
