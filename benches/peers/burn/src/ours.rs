//! wgpu-norm's side: plans of the whole passes.

use wgpu::{Buffer, BufferUsages};
use wgpu_norm::batch_norm::{self, AffineRows, Step, TrainBuffers, TrainPlan};
use wgpu_norm::layer_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, ForwardBuffers, ForwardOptions, ForwardPlan,
};
use wgpu_norm::{BatchNormConfig, Dtype, Gpu, SampleNorm};

use crate::Result;
use crate::case::{Case, Outcome};
use crate::problem::{Norm, Problem};

/// A layer's two passes, bound once.
pub struct Ours<'a> {
    gpu: &'a Gpu,
    /// The bytes of x.
    bytes: u64,
    tensors: Tensors,
    passes: Passes,
}

/// What both passes read and write, whatever the norm.
struct Tensors {
    inputs: Vec<Buffer>,
    incoming: Vec<Buffer>,
    affine: Buffer,
    outputs: Vec<Buffer>,
    dx: Buffer,
}

struct Passes {
    /// Forward and backward.
    steps: [Step; 2],
    grads: Buffer,
    rows: AffineRows,
}

impl<'a> Ours<'a> {
    pub fn new(gpu: &'a Gpu, case: &Case) -> Result<Self> {
        let all = |values: &[Vec<f32>]| values.iter().map(|each| filled(gpu, each)).collect();
        let alike = |values: &Vec<f32>| empty(gpu, 4 * values.len() as u64);
        let tensors = Tensors {
            inputs: all(&case.inputs),
            incoming: all(&case.incoming),
            affine: filled(gpu, &[&case.weight[..], &case.bias].concat()),
            outputs: case.incoming.iter().map(alike).collect(),
            dx: alike(&case.inputs[0]),
        };
        let problem = &case.problem;
        let passes = match &problem.norm {
            Norm::Batch(config) => batch(gpu, problem, config, &tensors),
            Norm::Group(config) => sample(gpu, problem, config, &tensors),
            Norm::Instance(config) => sample(gpu, problem, config, &tensors),
            Norm::Layer(config) => sample(gpu, problem, config, &tensors),
            Norm::Rms(config) => sample(gpu, problem, config, &tensors),
        }?;
        Ok(Self {
            gpu,
            bytes: 4 * case.inputs[0].len() as u64,
            tensors,
            passes,
        })
    }

    pub fn forward(&self) -> Result<()> {
        self.run(&self.passes.steps[..1])
    }

    /// Forward and backward.
    pub fn both(&self) -> Result<()> {
        self.run(&self.passes.steps)
    }

    fn run(&self, steps: &[Step]) -> Result<()> {
        let device = self.gpu.device();
        let mut encoder = device.create_command_encoder(&Default::default());
        steps.iter().for_each(|step| step.encode(&mut encoder));
        self.gpu.queue().submit([encoder.finish()]);
        device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(())
    }

    pub fn outcome(&self) -> Result<Outcome<f32>> {
        self.both()?;
        let Passes { grads, rows, .. } = &self.passes;
        let whole = |buffer: &Buffer| self.gpu.read_f32(buffer.slice(..self.bytes));
        let outputs = self.tensors.outputs.iter().map(whole);
        let outputs = outputs.collect::<std::result::Result<_, _>>()?;
        let mut gradients = vec![whole(&self.tensors.dx)?];
        for row in [&rows.weight, &rows.bias].into_iter().flatten() {
            gradients.push(self.gpu.read_f32(grads.slice(row.clone()))?);
        }
        Ok(Outcome { outputs, gradients })
    }
}

fn batch(
    gpu: &Gpu,
    problem: &Problem,
    config: &BatchNormConfig,
    tensors: &Tensors,
) -> Result<Passes> {
    let forward = TrainPlan::new(gpu.kernels(), problem.shape, config)?;
    let backward = batch_norm::BackwardPlan::new(gpu.kernels(), problem.shape, config)?;
    let running = config.initial_running().into_iter().map(f32::from_bits);
    let running = filled(gpu, &running.collect::<Vec<_>>());
    let (saved, grads) = (
        empty(gpu, forward.saved_bytes()),
        empty(gpu, backward.grads_bytes()),
    );
    let scratch = empty(gpu, forward.scratch_bytes().max(backward.scratch_bytes()));
    let [x, dy, y] =
        [&tensors.inputs, &tensors.incoming, &tensors.outputs].map(|all| all[0].slice(..));
    let forward = forward.bind(
        &TrainBuffers::new(x, y, saved.slice(..))
            .affine(tensors.affine.slice(..))
            .running(running.slice(..))
            .scratch(scratch.slice(..)),
    )?;
    let backward = backward.bind(
        &batch_norm::BackwardBuffers::new(x, dy)
            .dx(tensors.dx.slice(..))
            .saved(saved.slice(..))
            .affine(tensors.affine.slice(..))
            .grads(grads.slice(..))
            .scratch(scratch.slice(..)),
    )?;
    Ok(Passes {
        steps: [forward, backward],
        grads,
        rows: config.affine_rows(),
    })
}

/// The passes of a norm whose statistics come from each sample.
fn sample(
    gpu: &Gpu,
    problem: &Problem,
    config: &impl SampleNorm,
    tensors: &Tensors,
) -> Result<Passes> {
    let options = ForwardOptions::default().prenorm(problem.prenorm);
    let forward = ForwardPlan::with_options(gpu.kernels(), problem.shape, config, options)?;
    let options = BackwardOptions::default().prenorm(problem.prenorm);
    let backward = BackwardPlan::with_options(gpu.kernels(), problem.shape, config, options)?;
    let (saved, grads) = (
        empty(gpu, forward.saved_bytes()),
        empty(gpu, backward.grads_bytes()),
    );
    let scratch = empty(gpu, forward.scratch_bytes().max(backward.scratch_bytes()));
    let rows = config.affine_rows();
    let affine = tensors.affine.slice(..rows.bytes());
    let [(x, residual), (dy, dadded), (y, added)] =
        [&tensors.inputs, &tensors.incoming, &tensors.outputs]
            .map(|all| (all[0].slice(..), all.get(1).map(|buffer| buffer.slice(..))));
    let forward = forward.bind(
        &ForwardBuffers::new(x, y, saved.slice(..))
            .affine(affine)
            .residual(residual)
            .added(added)
            .scratch(scratch.slice(..)),
    )?;
    let backward = backward.bind(
        &BackwardBuffers::new(added.unwrap_or(x), dy, saved.slice(..))
            .dx(tensors.dx.slice(..))
            .affine(affine)
            .grads(grads.slice(..))
            .dadded(dadded)
            .scratch(scratch.slice(..)),
    )?;
    Ok(Passes {
        steps: [forward, backward],
        grads,
        rows,
    })
}

fn empty(gpu: &Gpu, bytes: u64) -> Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: bytes.next_multiple_of(16).max(16),
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

fn filled(gpu: &Gpu, values: &[f32]) -> Buffer {
    let bytes = Dtype::F32.pack(values);
    let buffer = empty(gpu, bytes.len() as u64);
    gpu.queue().write_buffer(&buffer, 0, &bytes);
    buffer
}
