//! Each norm without running statistics, with its oracle.

use super::wide;
use wgpu_norm::group_norm::{Epilogue, Layer, SavedRows};
use wgpu_norm::reference::{group_norm, instance_norm, layer_norm, rms_norm};
use wgpu_norm::{
    Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig, RmsNormConfig, SampleNorm,
    Shape,
};

/// A forward pass by an oracle.
pub struct Forward {
    pub y: Vec<f64>,
    pub mean: Vec<f64>,
    pub inv_std: Vec<f64>,
}

/// A backward pass by an oracle.
pub struct Gradients {
    pub dx: Vec<f64>,
    pub dweight: Vec<f64>,
    pub dbias: Vec<f64>,
}

/// A configuration of one of the norms, and its right answers.
pub trait Tested: SampleNorm {
    /// The word of its problem lines.
    const WORD: &'static str;

    /// Configurations for a shape, the usual one first, which has the parameters that torch's has.
    fn all(shape: Shape) -> Vec<Self>;

    /// The usual configuration.
    fn usual(shape: Shape) -> Self {
        Self::all(shape)[0]
    }

    /// A configuration of so many parameters, which fits no tensor.
    fn huge(parameters: usize) -> Self;

    /// With the weight, and with the bias.
    fn parameters(self, weight: bool, bias: bool) -> Self;
    fn finish(self, epilogue: Epilogue) -> Self;
    fn finished_by(&self) -> Epilogue;
    fn set_eps(self, eps: f32) -> Self;

    /// With parameters for each sample, and with 1 added to the weight or not.
    fn per_sample_with(self, unit_offset: bool) -> Self;
    fn make(self, gpu: &Gpu) -> Result<Layer<Self>, Error>;
    fn saved(&self, shape: Shape) -> SavedRows;

    /// The statistic of the value at an index in memory, counted as in `saved`.
    fn statistic_of(&self, shape: Shape, index: usize) -> usize;

    /// The parameter of the value at an index in memory.
    fn parameter_of(&self, shape: Shape, index: usize) -> usize;

    /// The weight that multiplies for a weight that the layer has.
    fn factor(&self, weight: f64) -> f64;

    /// Without an epilogue, for the weight that multiplies.
    fn oracle(&self, shape: Shape, x: &[f64], w: Option<&[f64]>, b: Option<&[f64]>) -> Forward;

    /// Given the gradient of the output without an epilogue.
    fn slopes(&self, shape: Shape, x: &[f64], dy: &[f64], w: Option<&[f64]>) -> Gradients;

    /// The number of values in a row of parameters.
    fn parameter_count(&self) -> usize {
        let rows = self.parameters(true, false).affine_rows_of(1);
        rows.bytes() as usize / 4
    }

    /// The oracle with parameters as a layer has them.
    fn forward_of(
        &self,
        shape: Shape,
        x: &[f32],
        weight: Option<&[f32]>,
        bias: Option<&[f32]>,
    ) -> Forward {
        let bias = bias.map(wide);
        let weight = self.factors(weight);
        self.oracle(shape, &wide(x), weight.as_deref(), bias.as_deref())
    }

    /// The same backward.
    fn gradients_of(
        &self,
        shape: Shape,
        x: &[f32],
        dy: &[f64],
        weight: Option<&[f32]>,
    ) -> Gradients {
        self.slopes(shape, &wide(x), dy, self.factors(weight).as_deref())
    }

    fn factors(&self, weight: Option<&[f32]>) -> Option<Vec<f64>> {
        weight.map(|row| wide(row).into_iter().map(|w| self.factor(w)).collect())
    }
}

/// The members that all configurations have.
macro_rules! members {
    () => {
        fn finish(self, epilogue: Epilogue) -> Self {
            self.epilogue(epilogue)
        }

        fn finished_by(&self) -> Epilogue {
            self.epilogue
        }

        fn set_eps(self, eps: f32) -> Self {
            self.eps(eps)
        }

        fn per_sample_with(self, unit_offset: bool) -> Self {
            self.per_sample(true).unit_offset(unit_offset)
        }

        fn factor(&self, weight: f64) -> f64 {
            match self.unit_offset {
                true => 1.0 + weight,
                false => weight,
            }
        }

        fn make(self, gpu: &Gpu) -> Result<Layer<Self>, Error> {
            self.build(gpu)
        }
    };
}

impl Tested for InstanceNormConfig {
    const WORD: &'static str = "instance";

    members!();

    fn all(shape: Shape) -> Vec<Self> {
        vec![Self::new(shape.channels()).affine(true)]
    }

    fn huge(parameters: usize) -> Self {
        Self::new(parameters).affine(true)
    }

    fn parameters(self, weight: bool, bias: bool) -> Self {
        self.weight(weight).bias(bias)
    }

    fn saved(&self, shape: Shape) -> SavedRows {
        self.saved_rows(shape.batch())
    }

    fn statistic_of(&self, shape: Shape, index: usize) -> usize {
        shape.sample_of(index) * shape.channels() + shape.channel_of(index)
    }

    fn parameter_of(&self, shape: Shape, index: usize) -> usize {
        shape.channel_of(index)
    }

    fn oracle(&self, shape: Shape, x: &[f64], w: Option<&[f64]>, b: Option<&[f64]>) -> Forward {
        let forward = instance_norm::forward(shape, x, w, b, self.eps.into());
        Forward {
            y: forward.y,
            mean: forward.mean,
            inv_std: forward.inv_std,
        }
    }

    fn slopes(&self, shape: Shape, x: &[f64], dy: &[f64], w: Option<&[f64]>) -> Gradients {
        let gradients = instance_norm::backward(shape, x, dy, w, self.eps.into());
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}

impl Tested for GroupNormConfig {
    const WORD: &'static str = "group";

    members!();

    /// The fewest groups above one, one group, and a group for each channel.
    fn all(shape: Shape) -> Vec<Self> {
        let channels = shape.channels();
        let few = (2..channels).find(|&groups| channels.is_multiple_of(groups));
        let groups = [few.unwrap_or(1), 1, channels];
        groups
            .map(|groups| Self::new(groups, channels))
            .into_iter()
            .collect()
    }

    fn huge(parameters: usize) -> Self {
        Self::new(1, parameters)
    }

    fn parameters(self, weight: bool, bias: bool) -> Self {
        self.weight(weight).bias(bias)
    }

    fn saved(&self, shape: Shape) -> SavedRows {
        self.saved_rows(shape.batch())
    }

    fn statistic_of(&self, shape: Shape, index: usize) -> usize {
        let in_group = self.num_channels / self.num_groups;
        shape.sample_of(index) * self.num_groups + shape.channel_of(index) / in_group
    }

    fn parameter_of(&self, shape: Shape, index: usize) -> usize {
        shape.channel_of(index)
    }

    fn oracle(&self, shape: Shape, x: &[f64], w: Option<&[f64]>, b: Option<&[f64]>) -> Forward {
        let forward = group_norm::forward(shape, self.num_groups, x, w, b, self.eps.into());
        Forward {
            y: forward.y,
            mean: forward.mean,
            inv_std: forward.inv_std,
        }
    }

    fn slopes(&self, shape: Shape, x: &[f64], dy: &[f64], w: Option<&[f64]>) -> Gradients {
        let gradients = group_norm::backward(shape, self.num_groups, x, dy, w, self.eps.into());
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}

/// The products of the innermost extents without the first of all: the longest row first.
fn sizes(shape: Shape) -> Vec<usize> {
    let dims = shape.dims();
    (1..dims.len())
        .map(|first| dims[first..].iter().product())
        .collect()
}

fn rows(shape: Shape, size: usize) -> usize {
    let outer = |dims: &[usize]| dims.iter().product::<usize>();
    let dims = shape.dims();
    let at = (0..=dims.len()).find(|&at| outer(&dims[at..]) == size);
    at.map_or(0, |at| outer(&dims[..at]))
}

impl Tested for LayerNormConfig {
    const WORD: &'static str = "layer";

    members!();

    fn all(shape: Shape) -> Vec<Self> {
        sizes(shape).into_iter().map(Self::new).collect()
    }

    fn huge(parameters: usize) -> Self {
        Self::new(parameters)
    }

    fn parameters(self, weight: bool, bias: bool) -> Self {
        self.weight(weight).bias(bias)
    }

    fn saved(&self, shape: Shape) -> SavedRows {
        self.saved_rows(rows(shape, self.normalized_size))
    }

    fn statistic_of(&self, _: Shape, index: usize) -> usize {
        index / self.normalized_size
    }

    fn parameter_of(&self, _: Shape, index: usize) -> usize {
        index % self.normalized_size
    }

    fn oracle(&self, _: Shape, x: &[f64], w: Option<&[f64]>, b: Option<&[f64]>) -> Forward {
        let forward = layer_norm::forward(self.normalized_size, x, w, b, self.eps.into());
        Forward {
            y: forward.y,
            mean: forward.mean,
            inv_std: forward.inv_std,
        }
    }

    fn slopes(&self, _: Shape, x: &[f64], dy: &[f64], w: Option<&[f64]>) -> Gradients {
        let gradients = layer_norm::backward(self.normalized_size, x, dy, w, self.eps.into());
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}

impl Tested for RmsNormConfig {
    const WORD: &'static str = "rms";

    members!();

    fn all(shape: Shape) -> Vec<Self> {
        let plain = sizes(shape).into_iter().map(Self::new);
        let with_offset = Self::new(sizes(shape)[0]).unit_offset(true);
        let with_bias = Self::new(sizes(shape)[0]).bias(true);
        plain.chain([with_offset, with_bias]).collect()
    }

    fn huge(parameters: usize) -> Self {
        Self::new(parameters)
    }

    fn parameters(self, weight: bool, bias: bool) -> Self {
        self.weight(weight).bias(bias)
    }

    fn saved(&self, shape: Shape) -> SavedRows {
        self.saved_rows(rows(shape, self.normalized_size))
    }

    fn statistic_of(&self, _: Shape, index: usize) -> usize {
        index / self.normalized_size
    }

    fn parameter_of(&self, _: Shape, index: usize) -> usize {
        index % self.normalized_size
    }

    fn oracle(&self, _: Shape, x: &[f64], w: Option<&[f64]>, b: Option<&[f64]>) -> Forward {
        let forward = rms_norm::forward(self.normalized_size, x, w, b, self.eps.into());
        Forward {
            y: forward.y,
            mean: vec![0.0; forward.inv_rms.len()],
            inv_std: forward.inv_rms,
        }
    }

    fn slopes(&self, _: Shape, x: &[f64], dy: &[f64], w: Option<&[f64]>) -> Gradients {
        let gradients = rms_norm::backward(self.normalized_size, x, dy, w, self.eps.into());
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: match self.bias {
                true => gradients.dbias,
                false => Vec::new(),
            },
        }
    }
}
