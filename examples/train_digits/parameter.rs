//! What training changes.

use wgpu::Buffer;
use wgpu_norm::Gpu;

use crate::program::{Program, storage, upload};
use crate::random::Random;

/// The share of one step of gradient descent that the next one repeats.
const MOMENTUM: f64 = 0.9;

/// Values to be learned.
pub struct Parameter {
    pub value: Buffer,
    pub gradient: Buffer,
    velocity: Buffer,
}

impl Parameter {
    pub fn new(gpu: &Gpu, initial: &[f32]) -> Self {
        Self::of(gpu, upload(gpu, initial))
    }

    /// Values that are there already.
    pub fn of(gpu: &Gpu, value: Buffer) -> Self {
        Self {
            gradient: storage(gpu, value.size()),
            velocity: storage(gpu, value.size()),
            value,
        }
    }

    /// Weights for a ReLU behind a sum of `inputs` terms (He et al., 2015).
    pub fn he(gpu: &Gpu, random: &mut Random, len: usize, inputs: usize) -> Self {
        let deviation = (2.0 / inputs as f32).sqrt();
        let initial: Vec<f32> = (0..len).map(|_| deviation * random.normal()).collect();
        Self::new(gpu, &initial)
    }

    /// Appends the step of gradient descent.
    pub fn update(&self, program: &mut Program, learning_rate: f32) {
        program.dispatch(
            include_str!("shaders/sgd.wgsl"),
            &[
                ("learning_rate", learning_rate.into()),
                ("momentum", MOMENTUM),
            ],
            &[&self.gradient, &self.velocity, &self.value],
            (self.value.size() / size_of::<f32>() as u64) as usize,
        );
    }
}
