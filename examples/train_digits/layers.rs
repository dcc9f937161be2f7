//! The layers: their parameters, and what they append to a program to run forward and backward.

use wgpu::Buffer;
use wgpu_norm::{Dtype, Gpu};

use crate::parameter::Parameter;
use crate::program::{Program, stored};
use crate::random::Random;

/// Four channels are one vector in the shaders.
const LANES: usize = 4;

/// A 3×3 convolution without a bias, of square images with a border of zeros.
pub struct Conv {
    size: usize,
    inputs: usize,
    outputs: usize,
    /// What results and their gradients are stored as.
    dtype: Dtype,
    pub weight: Parameter,
}

impl Conv {
    pub fn new(
        gpu: &Gpu,
        random: &mut Random,
        dtype: Dtype,
        size: usize,
        inputs: usize,
        outputs: usize,
    ) -> Self {
        Self {
            dtype,
            size,
            inputs,
            outputs,
            weight: Parameter::he(gpu, random, 9 * inputs * outputs, 9 * inputs),
        }
    }

    fn constants(&self) -> [(&'static str, f64); 3] {
        [
            ("size", self.size as f64),
            ("inputs", self.inputs as f64),
            ("outputs", (self.outputs / LANES) as f64),
        ]
    }

    pub fn forward(&self, program: &mut Program, x: &Buffer) -> Buffer {
        let elements = program.batch() * self.size * self.size * self.outputs;
        let y = program.stored_buffer(self.dtype, elements);
        program.dispatch(
            &[
                stored(self.dtype),
                include_str!("shaders/conv_forward.wgsl"),
            ]
            .concat(),
            &self.constants(),
            &[x, &self.weight.value, &y],
            elements / LANES,
        );
        y
    }

    pub fn backward_weight(&self, program: &mut Program, x: &Buffer, dy: &Buffer) {
        program.dispatch(
            &[
                stored(self.dtype),
                include_str!("shaders/conv_backward_weight.wgsl"),
            ]
            .concat(),
            &self.constants(),
            &[x, dy, &self.weight.gradient],
            9 * self.inputs * self.outputs / LANES,
        );
    }

    pub fn backward_input(&self, program: &mut Program, dy: &Buffer) -> Buffer {
        let elements = program.batch() * self.size * self.size * self.inputs;
        let dx = program.buffer(elements);
        program.dispatch(
            &[
                stored(self.dtype),
                include_str!("shaders/conv_backward_input.wgsl"),
            ]
            .concat(),
            &self.constants(),
            &[dy, &self.weight.value, &dx],
            elements,
        );
        dx
    }
}

/// 2×2 max pooling to `size` by `size`, after ReLU if that is still to be done.
pub struct Pool {
    pub relu: bool,
    /// What is pooled is stored as.
    pub dtype: Dtype,
    pub size: usize,
    pub channels: usize,
}

impl Pool {
    fn constants(&self) -> [(&'static str, f64); 3] {
        [
            ("size", self.size as f64),
            ("channels", (self.channels / LANES) as f64),
            ("relu", f64::from(u8::from(self.relu))),
        ]
    }

    /// The number of values that come out.
    fn elements(&self, program: &Program) -> usize {
        program.batch() * self.size * self.size * self.channels
    }

    pub fn forward(&self, program: &mut Program, x: &Buffer) -> Buffer {
        let elements = self.elements(program);
        let y = program.buffer(elements);
        program.dispatch(
            &[
                stored(self.dtype),
                include_str!("shaders/pool_forward.wgsl"),
            ]
            .concat(),
            &self.constants(),
            &[x, &y],
            elements / LANES,
        );
        y
    }

    pub fn backward(&self, program: &mut Program, x: &Buffer, y: &Buffer, dy: &Buffer) -> Buffer {
        let elements = self.elements(program);
        let dx = program.stored_buffer(self.dtype, 4 * elements);
        program.dispatch(
            &[
                stored(self.dtype),
                include_str!("shaders/pool_backward.wgsl"),
            ]
            .concat(),
            &self.constants(),
            &[x, y, dy, &dx],
            elements / LANES,
        );
        dx
    }
}

/// One value for each channel, added everywhere.
pub struct Bias {
    channels: usize,
    pub value: Parameter,
}

impl Bias {
    pub fn new(gpu: &Gpu, channels: usize) -> Self {
        Self {
            channels,
            value: Parameter::new(gpu, &vec![0.0; channels]),
        }
    }

    pub fn forward(&self, program: &mut Program, x: &Buffer) -> Buffer {
        let elements = (x.size() / size_of::<f32>() as u64) as usize;
        let y = program.buffer(elements);
        program.dispatch(
            include_str!("shaders/bias_forward.wgsl"),
            &[("channels", self.channels as f64)],
            &[x, &self.value.value, &y],
            elements,
        );
        y
    }

    /// The gradient with respect to the input is `dy` itself, so there is none to compute.
    pub fn backward(&self, program: &mut Program, dy: &Buffer) {
        program.dispatch(
            include_str!("shaders/bias_backward.wgsl"),
            &[],
            &[dy, &self.value.gradient],
            self.channels,
        );
    }
}

/// A fully connected layer.
pub struct Linear {
    inputs: usize,
    outputs: usize,
    pub weight: Parameter,
    pub bias: Bias,
}

impl Linear {
    pub fn new(gpu: &Gpu, random: &mut Random, inputs: usize, outputs: usize) -> Self {
        Self {
            inputs,
            outputs,
            weight: Parameter::he(gpu, random, inputs * outputs, inputs),
            bias: Bias::new(gpu, outputs),
        }
    }

    fn constants(&self) -> [(&'static str, f64); 2] {
        [
            ("inputs", (self.inputs / LANES) as f64),
            ("outputs", self.outputs as f64),
        ]
    }

    pub fn forward(&self, program: &mut Program, x: &Buffer) -> Buffer {
        let elements = program.batch() * self.outputs;
        let y = program.buffer(elements);
        program.dispatch(
            include_str!("shaders/linear_forward.wgsl"),
            &self.constants(),
            &[x, &self.weight.value, &self.bias.value.value, &y],
            elements,
        );
        y
    }

    pub fn backward(&self, program: &mut Program, x: &Buffer, dy: &Buffer) -> Buffer {
        program.dispatch(
            include_str!("shaders/linear_backward_weight.wgsl"),
            &self.constants(),
            &[x, dy, &self.weight.gradient],
            self.inputs * self.outputs / LANES,
        );
        self.bias.backward(program, dy);
        let elements = program.batch() * self.inputs;
        let dx = program.buffer(elements);
        program.dispatch(
            include_str!("shaders/linear_backward_input.wgsl"),
            &self.constants(),
            &[dy, &self.weight.value, &dx],
            elements / LANES,
        );
        dx
    }
}
