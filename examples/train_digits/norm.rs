//! BatchNorm by the library, in a program of this example.

use wgpu::Buffer;
use wgpu_norm::batch_norm::{
    BackwardBuffers, BackwardPlan, Epilogue, EvalBuffers, EvalPlan, TrainBuffers, TrainPlan,
};
use wgpu_norm::{BatchNormConfig, Dtype, Gpu, Problem, Shape};

use crate::parameter::Parameter;
use crate::program::{Program, storage, upload};
use crate::settings::Settings;

/// BatchNorm of square images, with the ReLU after it.
pub struct Norm {
    config: BatchNormConfig,
    dtype: Dtype,
    size: usize,
    channels: usize,
    training: TrainPlan,
    /// Weight and bias of all channels, which the library keeps in one buffer.
    pub affine: Parameter,
    /// What evaluation normalizes with: averages of the statistics that training met.
    running: Buffer,
    /// The statistics of the last training batch, for the backward pass.
    saved: Buffer,
}

impl Norm {
    /// For images of `size` by `size`.
    pub fn new(
        gpu: &Gpu,
        settings: &Settings,
        size: usize,
        channels: usize,
    ) -> anyhow::Result<Self> {
        let config = BatchNormConfig::new(channels).epilogue(Epilogue::Relu);
        let shape = Shape::nhwc(settings.batch, size, size, channels);
        let problem = Problem::new(shape, settings.dtype);
        let training = TrainPlan::new(gpu.kernels(), problem, &config)?;
        Ok(Self {
            dtype: settings.dtype,
            size,
            channels,
            affine: Parameter::new(gpu, &config.initial_affine()),
            running: upload(gpu, &config.initial_running()),
            saved: storage(gpu, training.saved_bytes()),
            training,
            config,
        })
    }

    fn problem(&self, program: &Program) -> Problem {
        let shape = Shape::nhwc(program.batch(), self.size, self.size, self.channels);
        Problem::new(shape, self.dtype)
    }

    /// Normalizes with the batch's own statistics.
    pub fn train(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let y = storage(gpu, x.size());
        let scratch = scratch(gpu, self.training.scratch_bytes());
        let buffers = TrainBuffers::new(x.slice(..), y.slice(..), self.saved.slice(..))
            .affine(self.affine.value.slice(..))
            .running(self.running.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = self.training.bind(&buffers)?;
        program.batch_norm(step);
        Ok(y)
    }

    /// Normalizes with the running statistics.
    pub fn eval(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let plan = EvalPlan::new(gpu.kernels(), self.problem(program), &self.config)?;
        let y = storage(gpu, x.size());
        let scratch = scratch(gpu, plan.scratch_bytes());
        let buffers = EvalBuffers::new(x.slice(..))
            .y(y.slice(..))
            .affine(self.affine.value.slice(..))
            .running(self.running.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = plan.bind(&buffers)?;
        program.batch_norm(step);
        Ok(y)
    }

    /// The gradients of `train`. Returns the one with respect to x.
    pub fn backward(
        &self,
        program: &mut Program,
        x: &Buffer,
        dy: &Buffer,
    ) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let plan = BackwardPlan::new(gpu.kernels(), self.problem(program), &self.config)?;
        let dx = storage(gpu, x.size());
        let scratch = scratch(gpu, plan.scratch_bytes());
        let buffers = BackwardBuffers::new(x.slice(..), dy.slice(..))
            .dx(dx.slice(..))
            .saved(self.saved.slice(..))
            .affine(self.affine.value.slice(..))
            .grads(self.affine.gradient.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = plan.bind(&buffers)?;
        program.batch_norm(step);
        Ok(dx)
    }
}

/// Memory for a step's intermediate results, if it has any.
fn scratch(gpu: &Gpu, bytes: u64) -> Option<Buffer> {
    (bytes > 0).then(|| storage(gpu, bytes))
}
