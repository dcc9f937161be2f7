//! Norms by the library, in a program of this example.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Context;
use wgpu::Buffer;
use wgpu_norm::batch_norm::{self, EvalBuffers, EvalPlan, TrainBuffers, TrainPlan};
use wgpu_norm::group_norm::{
    BackwardBuffers, BackwardPlan, Epilogue, ForwardBuffers, ForwardPlan, SampleNorm,
};
use wgpu_norm::sync::{Group, Saved};
use wgpu_norm::{
    BatchNormConfig, Dtype, Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    Problem, RmsNormConfig, Shape, SyncBatchNorm,
};

use crate::parameter::Parameter;
use crate::program::{Program, copy, storage, upload};
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
        WhichNorm::Batch => match &settings.ranks {
            Some(ranks) if ranks.synchronized => {
                Some(Box::new(Synchronized::new(gpu, &ranks.group, images)?))
            }
            _ => Some(Box::new(Batch::new(gpu, images, problem)?)),
        },
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

    fn eval(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let problem = self.images.problem(program.batch());
        evaluate(
            program,
            problem,
            &self.config,
            &self.affine.value,
            &self.running,
            x,
        )
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

/// Normalizes with the running statistics.
fn evaluate(
    program: &mut Program,
    problem: Problem,
    config: &BatchNormConfig,
    affine: &Buffer,
    running: &Buffer,
    x: &Buffer,
) -> anyhow::Result<Buffer> {
    let gpu = program.gpu();
    let plan = EvalPlan::new(gpu.kernels(), problem, config)?;
    let y = storage(gpu, x.size());
    let scratch = scratch(gpu, plan.scratch_bytes());
    let buffers = EvalBuffers::new(x.slice(..))
        .y(y.slice(..))
        .affine(affine.slice(..))
        .running(running.slice(..))
        .scratch(scratch.as_ref().map(|buffer| buffer.slice(..)));
    let step = plan.bind(&buffers)?;
    program.norm(step);
    Ok(y)
}

/// BatchNorm with the statistics of a batch over several ranks, which the host exchanges.
struct Synchronized {
    images: Images,
    affine: Parameter,
    layer: Rc<RefCell<SyncBatchNorm>>,
    saved: Rc<RefCell<Option<Saved>>>,
}

impl Synchronized {
    fn new(gpu: &Gpu, group: &Group, images: Images) -> anyhow::Result<Self> {
        let config = BatchNormConfig::new(images.channels).epilogue(Epilogue::Relu);
        let layer = config.build(gpu)?.to_sync(group);
        let affine = layer.local().affine_buffer();
        let affine = affine.context("a layer with weight and bias")?.clone();
        Ok(Self {
            images,
            affine: Parameter::of(gpu, affine),
            layer: Rc::new(RefCell::new(layer)),
            saved: Rc::default(),
        })
    }
}

impl Norm for Synchronized {
    fn affine(&self) -> &Parameter {
        &self.affine
    }

    fn train(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu().clone();
        let y = storage(&gpu, x.size());
        let x = gpu.tensor_from_buffer(self.images.problem(program.batch()), x.clone())?;
        let (layer, saved, out) = (self.layer.clone(), self.saved.clone(), y.clone());
        program.host(move || {
            let (y, left) = layer.borrow_mut().train(&x)?;
            *saved.borrow_mut() = Some(left);
            copy(&gpu, &[(y.buffer(), &out)]);
            Ok(())
        });
        Ok(y)
    }

    fn eval(&self, program: &mut Program, x: &Buffer) -> anyhow::Result<Buffer> {
        let problem = self.images.problem(program.batch());
        let layer = self.layer.borrow();
        let running = layer.local().running_buffer();
        let running = running.context("a layer with running statistics")?;
        evaluate(
            program,
            problem,
            layer.config(),
            &self.affine.value,
            running,
            x,
        )
    }

    fn backward(&self, program: &mut Program, _: &Buffer, dy: &Buffer) -> anyhow::Result<Buffer> {
        let gpu = program.gpu().clone();
        let dx = storage(&gpu, dy.size());
        let dy = gpu.tensor_from_buffer(self.images.problem(program.batch()), dy.clone())?;
        let (layer, saved, out) = (self.layer.clone(), self.saved.clone(), dx.clone());
        let gradient = self.affine.gradient.clone();
        program.host(move || {
            let saved = saved.take().context("a forward pass before")?;
            let gradients = layer.borrow().backward(saved, &dy).map_err(Error::from)?;
            let own = gradients.buffer().context("gradients of weight and bias")?;
            copy(&gpu, &[(gradients.dx.buffer(), &out), (own, &gradient)]);
            Ok(())
        });
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
