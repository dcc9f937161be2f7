//! The layer: parameters, running statistics, and one method for each mode.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::BatchNormConfig;
use super::options::{BackwardOptions, EvalOptions};
use super::plans::{BackwardBuffers, BackwardPlan, EvalBuffers, EvalPlan, TrainBuffers, TrainPlan};
use super::tuner::Tuner;
use super::tuning::Tuning;
use crate::dtype::Problem;
use crate::error::{Error, PlanError, TensorError, TuneError};
use crate::gpu::{Gpu, Step, Tensor};

/// A BatchNorm layer on a device.
///
/// There is no `training` flag to forget: the mode is the method. Each call is one submission, allocates its
/// results and waits for nothing. A training loop that is to allocate nothing uses the plans.
///
/// ```no_run
/// # use wgpu_norm::{BatchNormConfig, Gpu, Shape};
/// let gpu = Gpu::open()?;
/// let mut bn = BatchNormConfig::new(2).build(&gpu)?;
/// let x = gpu.tensor(Shape::nc(4, 2), &[1.0, 5.0, 2.0, 6.0, 3.0, 7.0, 4.0, 8.0])?;
/// let (y, saved) = bn.train(&x)?;
/// let gradients = bn.backward(saved, &y)?;
/// println!("{:?} {:?}", gradients.dx.read()?, gradients.weight()?);
/// println!("{:?} {:?}", bn.eval(&x)?.read()?, bn.state()?);
/// # Ok::<(), wgpu_norm::Error>(())
/// ```
#[derive(Debug)]
pub struct BatchNorm {
    gpu: Gpu,
    config: BatchNormConfig,
    /// Tells layers apart, so that a `Saved` finds its own.
    id: u64,
    affine: Option<wgpu::Buffer>,
    running: Option<wgpu::Buffer>,
    /// What a tuner chose, by problem.
    tunings: HashMap<Problem, Tunings>,
}

/// How the passes over one kind of tensor go.
#[derive(Clone, Copy, Debug, Default)]
struct Tunings {
    train: Tuning,
    eval: Tuning,
    backward: Tuning,
    frozen_backward: Tuning,
}

/// What a forward pass leaves for its backward pass, which consumes it. Holds on to the input, which must
/// not be overwritten in between, and to 12 bytes a channel; with an epilogue that adds, to the output too.
#[derive(Debug)]
#[must_use = "backward needs it; use eval where there is no backward"]
pub struct Saved {
    layer: u64,
    x: Tensor,
    /// The output, if backward reads it.
    y: Option<Tensor>,
    statistics: wgpu::Buffer,
    frozen: bool,
}

impl Saved {
    /// The device memory that it holds on to until backward: the input, 12 bytes a channel, and with an
    /// epilogue that adds the output.
    pub fn held_bytes(&self) -> u64 {
        let output = self.y.as_ref().map_or(0, |y| y.buffer().size());
        self.x.buffer().size() + output + self.statistics.size()
    }
}

/// The gradients of one backward pass.
#[derive(Debug)]
pub struct Gradients {
    /// With respect to the input, of its shape.
    pub dx: Tensor,
    /// With respect to the residual, if the epilogue adds one.
    pub dresidual: Option<Tensor>,
    config: BatchNormConfig,
    parameters: Option<wgpu::Buffer>,
}

impl Gradients {
    /// On the device, the f32 rows `[dweight: C] [dbias: C]` as far as the layer has them: the layout of
    /// [`BatchNorm::affine_buffer`], for an optimizer's kernel. `None` for a layer without parameters.
    pub fn buffer(&self) -> Option<&wgpu::Buffer> {
        self.parameters.as_ref()
    }

    /// With respect to the weight, `C` values; `None` if the layer has none. Waits for the device.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn weight(&self) -> Result<Option<Vec<f32>>, Error> {
        Rows::affine(&self.config).weight(self.dx.gpu(), self.buffer())
    }

    /// With respect to the bias, `C` values; `None` if the layer has none. Waits for the device.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn bias(&self) -> Result<Option<Vec<f32>>, Error> {
        Rows::affine(&self.config).bias(self.dx.gpu(), self.buffer())
    }
}

/// Where the rows of a packed buffer begin, in bytes.
struct Rows {
    channels: usize,
    weight: Option<u64>,
    bias: Option<u64>,
}

impl Rows {
    fn affine(config: &BatchNormConfig) -> Self {
        let row = 4 * config.num_features as u64;
        Self {
            channels: config.num_features,
            weight: config.weight.then_some(0),
            bias: config.bias.then_some(if config.weight { row } else { 0 }),
        }
    }

    fn weight(&self, gpu: &Gpu, buffer: Option<&wgpu::Buffer>) -> Result<Option<Vec<f32>>, Error> {
        self.read(gpu, buffer, self.weight)
    }

    fn bias(&self, gpu: &Gpu, buffer: Option<&wgpu::Buffer>) -> Result<Option<Vec<f32>>, Error> {
        self.read(gpu, buffer, self.bias)
    }

    fn read(
        &self,
        gpu: &Gpu,
        buffer: Option<&wgpu::Buffer>,
        offset: Option<u64>,
    ) -> Result<Option<Vec<f32>>, Error> {
        buffer
            .zip(offset)
            .map(|(buffer, offset)| gpu.read_buffer(buffer, offset, self.channels))
            .transpose()
    }
}

/// The layer's state on the host, under torch's names. A value that the configuration leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// `C` factors of the output.
    pub weight: Option<Vec<f32>>,
    /// `C` values added to the output.
    pub bias: Option<Vec<f32>>,
    /// `C` averages of batch means.
    pub running_mean: Option<Vec<f32>>,
    /// `C` averages of unbiased batch variances.
    pub running_var: Option<Vec<f32>>,
    /// How many training batches have moved the averages.
    pub num_batches_tracked: Option<u64>,
}

impl BatchNormConfig {
    /// Makes the layer: weight and running variance one, all else zero.
    ///
    /// # Errors
    /// [`PlanError`] for a configuration that no shape goes with; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<BatchNorm, Error> {
        static LAYERS: AtomicU64 = AtomicU64::new(0);
        self.check()?;
        // Before the host makes room for rows that no device could hold.
        let (needed, available) = (
            12u64.saturating_mul(self.num_features as u64),
            gpu.kernels().caps().max_binding,
        );
        if needed > available {
            let limit = "max_storage_buffer_binding_size";
            return Err(PlanError::Limit {
                limit,
                needed,
                available,
            }
            .into());
        }
        let state = |label, bytes: &[u8]| -> Result<Option<wgpu::Buffer>, Error> {
            if bytes.is_empty() {
                return Ok(None);
            }
            let buffer = gpu.state_buffer(label, bytes.len() as u64)?;
            gpu.queue().write_buffer(&buffer, 0, bytes);
            Ok(Some(buffer))
        };
        Ok(BatchNorm {
            gpu: gpu.clone(),
            config: self,
            id: LAYERS.fetch_add(1, Ordering::Relaxed),
            affine: state("affine", bytemuck::cast_slice(&self.initial_affine()))?,
            running: state("running", bytemuck::cast_slice(&self.initial_running()))?,
            tunings: HashMap::new(),
        })
    }
}

fn all(buffer: &Option<wgpu::Buffer>) -> Option<wgpu::BufferSlice<'_>> {
    buffer.as_ref().map(|buffer| buffer.slice(..))
}

impl BatchNorm {
    /// The configuration that the layer was made with.
    pub fn config(&self) -> &BatchNormConfig {
        &self.config
    }

    /// The parameters on the device: the f32 rows `[weight: C] [bias: C]` as far as the layer has them, for
    /// an optimizer's kernel. `None` for a layer without parameters.
    pub fn affine_buffer(&self) -> Option<&wgpu::Buffer> {
        self.affine.as_ref()
    }

    /// The running statistics on the device; see [`TrainBuffers::running`].
    pub fn running_buffer(&self) -> Option<&wgpu::Buffer> {
        self.running.as_ref()
    }

    /// Lets a tuner choose how the layer's passes over tensors of this shape and storage type go from now on. What
    /// it has not chosen before, it measures: a fraction of a second for each pass, and what the driver takes to
    /// compile the candidates.
    ///
    /// ```no_run
    /// # use wgpu_norm::batch_norm::Tuner;
    /// # use wgpu_norm::{BatchNormConfig, Gpu, Shape};
    /// # let gpu = Gpu::open()?;
    /// let mut tuner = Tuner::with_file(&gpu, "wgpu-norm.tuning")?;
    /// let mut bn = BatchNormConfig::new(64).build(&gpu)?;
    /// bn.tune(&mut tuner, Shape::nchw(32, 64, 56, 56))?;
    /// # Ok::<(), wgpu_norm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tuner::train`], and [`TuneError::WrongDevice`]. The layer goes on as before then.
    pub fn tune(&mut self, tuner: &mut Tuner, problem: impl Into<Problem>) -> Result<(), Error> {
        if !tuner.gpu().is(&self.gpu) {
            return Err(TuneError::WrongDevice.into());
        }
        let (problem, config) = (problem.into(), &self.config);
        let mut tunings = Tunings {
            train: tuner.train(problem, config)?,
            eval: tuner.eval(problem, config, EvalOptions::default())?,
            backward: tuner.backward(problem, config, BackwardOptions::default())?,
            ..Tunings::default()
        };
        if config.track_running_stats {
            let frozen = BackwardOptions {
                frozen: true,
                ..BackwardOptions::default()
            };
            tunings.frozen_backward = tuner.backward(problem, config, frozen)?;
        }
        self.tunings.insert(problem, tunings);
        Ok(())
    }

    fn tunings(&self, problem: Problem) -> Tunings {
        self.tunings.get(&problem).copied().unwrap_or_default()
    }

    /// Forward in training: `(y, saved)`. Normalizes by the batch's own statistics and moves the running
    /// ones. An empty batch gives an empty output and leaves them alone.
    ///
    /// # Errors
    /// [`PlanError`] for a shape that the layer cannot train on, [`TensorError`] for a tensor of another
    /// device, [`GpuError`](crate::GpuError). The running statistics have not moved then.
    pub fn train(&mut self, x: &Tensor) -> Result<(Tensor, Saved), Error> {
        self.train_by(x, None)
    }

    /// As [`train`](Self::train), for a layer whose epilogue adds `residual`, which is of `x`'s shape and type.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_add(&mut self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Saved), Error> {
        self.train_by(x, Some(residual))
    }

    fn train_by(
        &mut self,
        x: &Tensor,
        residual: Option<&Tensor>,
    ) -> Result<(Tensor, Saved), Error> {
        self.check_inputs(x, residual)?;
        let (kernels, problem) = (self.gpu.kernels(), x.problem());
        let tuning = self.tunings(problem).train;
        let plan = TrainPlan::with_tuning(kernels, problem, &self.config, tuning)?;
        let y = self.like(x)?;
        let statistics = self.gpu.state_buffer("saved", plan.saved_bytes())?;
        let scratch = self.gpu.state_buffer("scratch", plan.scratch_bytes())?;
        let step = plan.bind(&TrainBuffers {
            x: x.buffer().slice(..),
            y: y.buffer().slice(..),
            residual: residual.map(|tensor| tensor.buffer().slice(..)),
            affine: all(&self.affine),
            running: all(&self.running),
            saved: statistics.slice(..),
            scratch: Some(scratch.slice(..)),
        })?;
        self.submit(&step);
        let saved = self.saved(x, &y, statistics, false);
        Ok((y, saved))
    }

    /// Forward outside training: normalizes by the running statistics, and changes nothing. Without
    /// `track_running_stats`, by the batch's own statistics.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn eval(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.eval_by(x, None)
    }

    /// As [`eval`](Self::eval), for a layer whose epilogue adds `residual`.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn eval_add(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor, Error> {
        self.eval_by(x, Some(residual))
    }

    fn eval_by(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor, Error> {
        self.check_inputs(x, residual)?;
        let (kernels, problem) = (self.gpu.kernels(), x.problem());
        let options = EvalOptions {
            tuning: self.tunings(problem).eval,
            ..EvalOptions::default()
        };
        let plan = EvalPlan::with_options(kernels, problem, &self.config, options)?;
        let y = self.like(x)?;
        let saved = self.gpu.state_buffer("saved", plan.saved_bytes())?;
        let scratch = self.gpu.state_buffer("scratch", plan.scratch_bytes())?;
        let step = plan.bind(&EvalBuffers {
            x: x.buffer().slice(..),
            y: Some(y.buffer().slice(..)),
            residual: residual.map(|tensor| tensor.buffer().slice(..)),
            affine: all(&self.affine),
            running: all(&self.running),
            saved: Some(saved.slice(..)),
            scratch: Some(scratch.slice(..)),
        })?;
        self.submit(&step);
        Ok(y)
    }

    /// Forward with frozen statistics, to be trained through: as [`eval`](Self::eval) by running
    /// statistics, `(y, saved)`. Backward uses the statistics of this moment, wherever training moves the
    /// layer's own in between.
    ///
    /// # Errors
    /// As [`train`](Self::train), and [`PlanError::NoRunningStatistics`].
    pub fn frozen(&self, x: &Tensor) -> Result<(Tensor, Saved), Error> {
        self.frozen_by(x, None)
    }

    /// As [`frozen`](Self::frozen), for a layer whose epilogue adds `residual`.
    ///
    /// # Errors
    /// As [`frozen`](Self::frozen).
    pub fn frozen_add(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Saved), Error> {
        self.frozen_by(x, Some(residual))
    }

    fn frozen_by(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<(Tensor, Saved), Error> {
        let running = self
            .running
            .as_ref()
            .ok_or(PlanError::NoRunningStatistics)?;
        let y = self.eval_by(x, residual)?;
        let statistics = self.gpu.state_buffer("saved", running.size())?;
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(running, 0, &statistics, 0, running.size());
        self.gpu.queue().submit([encoder.finish()]);
        let saved = self.saved(x, &y, statistics, true);
        Ok((y, saved))
    }

    /// The gradients of the forward pass that left `saved`, given the gradient `dy` of its output, by the
    /// weight as it is now.
    ///
    /// # Errors
    /// [`TensorError`] for a `saved` of another layer, or a `dy` of another shape, storage type or
    /// device;
    /// [`GpuError`](crate::GpuError).
    pub fn backward(&self, saved: Saved, dy: &Tensor) -> Result<Gradients, Error> {
        if saved.layer != self.id {
            return Err(TensorError::ForeignSaved.into());
        }
        self.check_device("dy", dy)?;
        let problem = saved.x.problem();
        if dy.problem() != problem {
            return Err(TensorError::Shape {
                field: "dy",
                expected: problem.to_string(),
                got: dy.problem().to_string(),
            }
            .into());
        }
        let tunings = self.tunings(problem);
        let options = BackwardOptions {
            frozen: saved.frozen,
            tuning: if saved.frozen {
                tunings.frozen_backward
            } else {
                tunings.backward
            },
            ..BackwardOptions::default()
        };
        let kernels = self.gpu.kernels();
        let plan = BackwardPlan::with_options(kernels, problem, &self.config, options)?;
        let dx = self.like(&saved.x)?;
        let dresidual = saved.y.as_ref().map(|y| self.like(y)).transpose()?;
        let parameters = match plan.grads_bytes() {
            0 => None,
            bytes => Some(self.gpu.state_buffer("gradients", bytes)?),
        };
        let scratch = self.gpu.state_buffer("scratch", plan.scratch_bytes())?;
        let step = plan.bind(&BackwardBuffers {
            x: saved.x.buffer().slice(..),
            dy: dy.buffer().slice(..),
            dx: Some(dx.buffer().slice(..)),
            output: saved.y.as_ref().map(|tensor| tensor.buffer().slice(..)),
            dresidual: dresidual.as_ref().map(|tensor| tensor.buffer().slice(..)),
            statistics: saved.statistics.slice(..),
            affine: all(&self.affine),
            grads: all(&parameters),
            scratch: Some(scratch.slice(..)),
        })?;
        self.submit(&step);
        Ok(Gradients {
            dx,
            dresidual,
            config: self.config,
            parameters,
        })
    }

    /// Reads parameters and running statistics. Waits for everything submitted so far.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn state(&self) -> Result<State, Error> {
        let rows = Rows::affine(&self.config);
        let mut state = State {
            weight: rows.weight(&self.gpu, self.affine_buffer())?,
            bias: rows.bias(&self.gpu, self.affine_buffer())?,
            ..State::default()
        };
        if let Some(running) = &self.running {
            let channels = self.config.num_features;
            let row = 4 * channels as u64;
            state.running_mean = Some(self.gpu.read_buffer(running, 0, channels)?);
            state.running_var = Some(self.gpu.read_buffer(running, row, channels)?);
            // All channels count alike.
            let counters: Vec<u32> = self.gpu.read_buffer(running, 2 * row, 1)?;
            state.num_batches_tracked = counters.first().map(|&n| n.into());
        }
        Ok(state)
    }

    /// Replaces parameters and running statistics: all of them, or on error none.
    ///
    /// # Errors
    /// [`TensorError::State`] for a value that the layer does not have, lacks or has in another length.
    pub fn load_state(&mut self, state: &State) -> Result<(), Error> {
        let track = self.config.track_running_stats;
        let values = |field, value: &Option<Vec<f32>>, wanted| {
            self.check_state(field, value.as_ref().map(Vec::len), wanted)
        };
        values("weight", &state.weight, self.config.weight)?;
        values("bias", &state.bias, self.config.bias)?;
        values("running_mean", &state.running_mean, track)?;
        values("running_var", &state.running_var, track)?;
        let channels = self.config.num_features;
        let counted = state.num_batches_tracked.map(|_| channels);
        self.check_state("num_batches_tracked", counted, track)?;
        let batches = u32::try_from(state.num_batches_tracked.unwrap_or(0)).map_err(|_| {
            TensorError::State {
                field: "num_batches_tracked",
                problem: "is above 4294967295, the most that the device counts".to_owned(),
            }
        })?;

        let queue = self.gpu.queue();
        if let Some(affine) = &self.affine {
            let rows: Vec<f32> = [&state.weight, &state.bias]
                .into_iter()
                .flatten()
                .flatten()
                .copied()
                .collect();
            queue.write_buffer(affine, 0, bytemuck::cast_slice(&rows));
        }
        if let Some(running) = &self.running {
            let rows = [&state.running_mean, &state.running_var]
                .into_iter()
                .flatten()
                .flatten();
            let bits: Vec<u32> = rows
                .map(|v| v.to_bits())
                .chain(std::iter::repeat_n(batches, channels))
                .collect();
            queue.write_buffer(running, 0, bytemuck::cast_slice(&bits));
        }
        Ok(())
    }

    /// Sets the running statistics back to those of a new layer.
    pub fn reset_running_stats(&mut self) {
        if let Some(running) = &self.running {
            let rows = self.config.initial_running();
            self.gpu
                .queue()
                .write_buffer(running, 0, bytemuck::cast_slice(&rows));
        }
    }

    fn check_state(
        &self,
        field: &'static str,
        len: Option<usize>,
        wanted: bool,
    ) -> Result<(), TensorError> {
        let channels = self.config.num_features;
        let problem = match len {
            None if wanted => "is missing".to_owned(),
            Some(_) if !wanted => "is given, but the layer has none".to_owned(),
            Some(len) if len != channels => {
                format!("expected {channels} values (num_features), got {len}")
            }
            _ => return Ok(()),
        };
        Err(TensorError::State { field, problem })
    }

    /// Does the residual fit the layer and the input?
    fn check_inputs(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<(), TensorError> {
        self.check_device("x", x)?;
        let Some(residual) = residual else {
            return match self.config.epilogue.adds() {
                true => Err(TensorError::Residual {
                    problem: "is missing; use the method ending in _add",
                }),
                false => Ok(()),
            };
        };
        if !self.config.epilogue.adds() {
            return Err(TensorError::Residual {
                problem: "is given, but the epilogue adds nothing",
            });
        }
        self.check_device("residual", residual)?;
        if residual.problem() != x.problem() {
            return Err(TensorError::Shape {
                field: "residual",
                expected: x.problem().to_string(),
                got: residual.problem().to_string(),
            });
        }
        Ok(())
    }

    fn check_device(&self, field: &'static str, tensor: &Tensor) -> Result<(), TensorError> {
        if tensor.gpu().is(&self.gpu) {
            Ok(())
        } else {
            Err(TensorError::WrongDevice { field })
        }
    }

    /// Memory for a result of the same shape.
    fn like(&self, x: &Tensor) -> Result<Tensor, Error> {
        self.gpu.uninitialized(x.problem(), x.len())
    }

    fn saved(&self, x: &Tensor, y: &Tensor, statistics: wgpu::Buffer, frozen: bool) -> Saved {
        Saved {
            layer: self.id,
            x: x.clone(),
            y: self.config.epilogue.adds().then(|| y.clone()),
            statistics,
            frozen,
        }
    }

    fn submit(&self, step: &Step) {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        step.encode(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
    }
}
