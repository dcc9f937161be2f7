//! Norms by the library, in a program of this example.

use wgpu::Buffer;
use wgpu_norm::batch_norm::{self, EvalBuffers, EvalPlan, TrainBuffers, TrainPlan};
use wgpu_norm::group_norm::{
    BackwardBuffers, BackwardPlan, Epilogue, ForwardBuffers, ForwardPlan, SampleNorm,
};
use wgpu_norm::{
    BatchNormConfig, Dtype, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig, Problem,
    RmsNormConfig, Shape,
};

use crate::parameter::Parameter;
use crate::program::{Program, storage, upload};
use crate::settings::{Settings, WhichNorm};

/// GroupNorm's groups, of 2 channels in the first block and 4 in the second.
const GROUPS: usize = 8;

/// A norm of square images, with the ReLU after it.
pub trait Norm {
    /// Weight and bias, which the library keeps in one buffer.
    fn affine(&self) -> &Parameter;

    /// Normalizes for training, and keeps what the backward pass needs.
    fn train(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer>;

    /// Normalizes as after training.
    fn eval(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer>;

    /// The gradients of `train`. Returns the one with respect to x.
    fn backward(&self, program: &mut Program, x: &Buffer, dy: &Buffer) -> anyhow::Result<Buffer>;
}

/// The norm of the settings for images of `size` by `size`, if there is one.
pub fn norm(
    gpu: &Gpu,
    settings: &Settings,
    size: usize,
    channels: usize,
) -> anyhow::Result<Option<Box<dyn Norm>>> {
    let images = Images {
        dtype: settings.dtype,
        size,
        channels,
    };
    let problem = images.problem(settings.batch);
    let relu = Epilogue::Relu;
    Ok(match settings.norm {
        WhichNorm::Batch => Some(Box::new(Batch::new(gpu, images, problem)?)),
        WhichNorm::Group => {
            let config = GroupNormConfig::new(GROUPS, channels).epilogue(relu);
            Some(Box::new(Sample::new(gpu, images, problem, config)?))
        }
        WhichNorm::Layer => {
            // The channels of a pixel, which are neighbours.
            let config = LayerNormConfig::new(channels).epilogue(relu);
            Some(Box::new(Sample::new(gpu, images, problem, config)?))
        }
        WhichNorm::Instance => {
            let config = InstanceNormConfig::new(channels)
                .affine(true)
                .epilogue(relu);
            Some(Box::new(Sample::new(gpu, images, problem, config)?))
        }
        WhichNorm::Rms => {
            let config = RmsNormConfig::new(channels).epilogue(relu);
            Some(Box::new(Sample::new(gpu, images, problem, config)?))
        }
        WhichNorm::None => None,
    })
}

/// What is normalized.
#[derive(Clone, Copy)]
struct Images {
    dtype: Dtype,
    size: usize,
    channels: usize,
}

impl Images {
    fn problem(self, batch: usize) -> Problem {
        let shape = Shape::nhwc(batch, self.size, self.size, self.channels);
        Problem::new(shape, self.dtype)
    }
}

/// BatchNorm.
struct Batch {
    config: BatchNormConfig,
    images: Images,
    training: TrainPlan,
    affine: Parameter,
    /// What evaluation normalizes with: averages of the statistics that training met.
    running: Buffer,
    /// The statistics of the last training batch, for the backward pass.
    saved: Buffer,
}

impl Batch {
    fn new(gpu: &Gpu, images: Images, problem: Problem) -> anyhow::Result<Self> {
        let config = BatchNormConfig::new(images.channels).epilogue(Epilogue::Relu);
        let training = TrainPlan::new(gpu.kernels(), problem, &config)?;
        Ok(Self {
            images,
            affine: Parameter::new(gpu, &config.initial_affine()),
            running: upload(gpu, &config.initial_running()),
            saved: storage(gpu, training.saved_bytes()),
            training,
            config,
        })
    }
}

impl Norm for Batch {
    fn affine(&self) -> &Parameter {
        &self.affine
    }

    /// Normalizes with the batch's own statistics.
    fn train(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let y = storage(gpu, x.size());
        let scratch = scratch(gpu, self.training.scratch_bytes());
        let buffers = TrainBuffers::new(x.slice(..), y.slice(..), self.saved.slice(..))
            .affine(self.affine.value.slice(..))
            .running(self.running.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = self.training.bind(&buffers)?;
        program.norm(step);
        Ok(y)
    }

    /// Normalizes with the running statistics.
    fn eval(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let problem = self.images.problem(program.batch());
        let plan = EvalPlan::new(gpu.kernels(), problem, &self.config)?;
        let y = storage(gpu, x.size());
        let scratch = scratch(gpu, plan.scratch_bytes());
        let buffers = EvalBuffers::new(x.slice(..))
            .y(y.slice(..))
            .affine(self.affine.value.slice(..))
            .running(self.running.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = plan.bind(&buffers)?;
        program.norm(step);
        Ok(y)
    }

    fn backward(&self, program: &mut Program, x: &Buffer, dy: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let problem = self.images.problem(program.batch());
        let plan = batch_norm::BackwardPlan::new(gpu.kernels(), problem, &self.config)?;
        let dx = storage(gpu, x.size());
        let scratch = scratch(gpu, plan.scratch_bytes());
        let buffers = batch_norm::BackwardBuffers::new(x.slice(..), dy.slice(..))
            .dx(dx.slice(..))
            .saved(self.saved.slice(..))
            .affine(self.affine.value.slice(..))
            .grads(self.affine.gradient.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = plan.bind(&buffers)?;
        program.norm(step);
        Ok(dx)
    }
}

/// A norm whose statistics come from each image alone, so that training and evaluation are one.
struct Sample<C> {
    config: C,
    images: Images,
    affine: Parameter,
    /// The statistics of the last training batch, for the backward pass.
    saved: Buffer,
}

impl<C: SampleNorm> Sample<C> {
    fn new(gpu: &Gpu, images: Images, problem: Problem, config: C) -> anyhow::Result<Self> {
        let training = ForwardPlan::new(gpu.kernels(), problem, &config)?;
        Ok(Self {
            images,
            affine: Parameter::new(gpu, &config.initial_affine()),
            saved: storage(gpu, training.saved_bytes()),
            config,
        })
    }

    /// Normalizes, and leaves the statistics in `saved`.
    fn forward(&self, program: &mut Program, x: &Buffer, saved: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let problem = self.images.problem(program.batch());
        let plan = ForwardPlan::new(gpu.kernels(), problem, &self.config)?;
        let y = storage(gpu, x.size());
        let scratch = scratch(gpu, plan.scratch_bytes());
        let buffers = ForwardBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
            .affine(self.affine.value.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = plan.bind(&buffers)?;
        program.norm(step);
        Ok(y)
    }
}

impl<C: SampleNorm> Norm for Sample<C> {
    fn affine(&self) -> &Parameter {
        &self.affine
    }

    fn train(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        self.forward(program, x, &self.saved)
    }

    fn eval(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let problem = self.images.problem(program.batch());
        let plan = ForwardPlan::new(program.gpu().kernels(), problem, &self.config)?;
        // Nobody reads them, but they have as many values as there are images.
        let saved = storage(program.gpu(), plan.saved_bytes());
        self.forward(program, x, &saved)
    }

    fn backward(&self, program: &mut Program, x: &Buffer, dy: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu();
        let problem = self.images.problem(program.batch());
        let plan = BackwardPlan::new(gpu.kernels(), problem, &self.config)?;
        let dx = storage(gpu, x.size());
        let scratch = scratch(gpu, plan.scratch_bytes());
        let buffers = BackwardBuffers::new(x.slice(..), dy.slice(..), self.saved.slice(..))
            .dx(dx.slice(..))
            .affine(self.affine.value.slice(..))
            .grads(self.affine.gradient.slice(..))
            .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
        let step = plan.bind(&buffers)?;
        program.norm(step);
        Ok(dx)
    }
}

/// Memory for a step's intermediate results, if it has any.
fn scratch(gpu: &Gpu, bytes: u64) -> Option<Buffer> {
    (bytes > 0).then(|| storage(gpu, bytes))
}
