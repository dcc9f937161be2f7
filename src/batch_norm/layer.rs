//! The layer: parameters, running statistics, and one method for each mode.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;

use super::config::BatchNormConfig;
use super::freeze::Freeze;
use super::options::{BackwardOptions, EvalOptions, TrainOptions};
use super::plans::{BackwardBuffers, BackwardPlan, EvalBuffers, EvalPlan, TrainBuffers, TrainPlan};
use crate::dtype::Problem;
use crate::error::{Error, PlanError, TuneError};
use crate::gpu::{Gpu, Step, Tensor};
use crate::norm::layer::{
    BackwardError, Gradients, Input, LayerId, Parameters, Saved, Wanted, check_rows, like, uploaded,
};
use crate::norm::options::setters;
use crate::norm::tuner::Tuner;
use crate::norm::tuning::Tuning;

/// A BatchNorm layer on a device.
///
/// There is no `training` flag to forget: the mode is the method. Each call is one submission and allocates its results.
/// It waits only where eight calls are under way, for the first of them, so that a loop that reads nothing does not hold the
/// results of all its steps. A training loop that must not allocate uses the plans, which never wait.
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
    id: LayerId,
    parameters: Parameters,
    running: Option<wgpu::Buffer>,
    tunings: HashMap<Problem, LayerTuning>,
    freeze: Freeze,
    /// The skipped batches that an error has told of.
    pub(super) skipped_told: AtomicU64,
}

/// The tuning of each pass of a layer over one kind of tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerTuning {
    /// Of [`BatchNorm::train`].
    pub train: Tuning,
    /// Of [`BatchNorm::eval`] and [`BatchNorm::frozen`].
    pub eval: Tuning,
    /// Of [`BatchNorm::backward`] after `train`.
    pub backward: Tuning,
    /// Of [`BatchNorm::backward`] after `frozen`.
    pub frozen_backward: Tuning,
}

setters!(LayerTuning: train: Tuning, eval: Tuning, backward: Tuning, frozen_backward: Tuning);

impl BatchNormConfig {
    /// Makes the layer: weight and running variance one, all else zero.
    ///
    /// # Errors
    /// [`PlanError`](crate::PlanError) for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub fn build(self, gpu: &Gpu) -> Result<BatchNorm, Error> {
        self.check()?;
        // Before the host allocates rows that no device could hold.
        check_rows(gpu, self.saved_rows().bytes())?;
        let running = self.initial_running();
        Ok(BatchNorm {
            gpu: gpu.clone(),
            config: self,
            id: LayerId::new(),
            parameters: Parameters::new(gpu, self.affine_rows(), || self.initial_affine())?,
            running: uploaded(gpu, "running", bytemuck::cast_slice(&running))?,
            tunings: HashMap::new(),
            freeze: Freeze::default(),
            skipped_told: AtomicU64::new(0),
        })
    }
}

impl BatchNorm {
    /// The configuration that the layer was made with.
    pub fn config(&self) -> &BatchNormConfig {
        &self.config
    }

    /// The device of the layer.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The parameters on the device: the f32 rows `[weight: C] [bias: C]` of those that the layer has
    /// ([`BatchNormConfig::affine_rows`]), for an optimizer's kernel. `None` for a layer without parameters.
    pub fn affine_buffer(&self) -> Option<&wgpu::Buffer> {
        self.parameters.buffer()
    }

    pub(crate) fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The running statistics on the device; see [`TrainBuffers::running`].
    pub fn running_buffer(&self) -> Option<&wgpu::Buffer> {
        self.running.as_ref()
    }

    /// Replaces the weight. Zero weights make a residual block the identity at first.
    ///
    /// # Errors
    /// [`TensorError::State`](crate::TensorError::State) if the layer has no weight, or for another number of values.
    pub fn set_weight(&mut self, values: &[f32]) -> Result<(), Error> {
        self.parameters.set_weight(values)
    }

    /// Replaces the bias.
    ///
    /// # Errors
    /// As [`set_weight`](Self::set_weight).
    pub fn set_bias(&mut self, values: &[f32]) -> Result<(), Error> {
        self.parameters.set_bias(values)
    }

    /// Lets a tuner choose strategies and tiles for the layer's passes over tensors of this shape and storage type. The
    /// tuner measures what it does not remember: a fraction of a second for each pass, and the time that the driver takes
    /// to compile the candidates.
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
    /// As [`Tuner::train`], and [`TuneError::WrongDevice`]. The layer keeps its tuning then.
    pub fn tune(&mut self, tuner: &mut Tuner, problem: impl Into<Problem>) -> Result<(), Error> {
        if !tuner.gpu().is(&self.gpu) {
            return Err(TuneError::WrongDevice.into());
        }
        let (problem, config) = (problem.into(), &self.config);
        let mut tuning = LayerTuning {
            train: tuner.train(problem, config)?,
            eval: tuner.eval(problem, config, EvalOptions::default())?,
            backward: tuner.backward(problem, config, BackwardOptions::default())?,
            ..LayerTuning::default()
        };
        if config.track_running_stats {
            let frozen = BackwardOptions::default().frozen(true);
            tuning.frozen_backward = tuner.backward(problem, config, frozen)?;
        }
        self.set_tuning(problem, tuning);
        Ok(())
    }

    /// Sets strategies and tiles for the layer's passes over tensors of this shape and storage type. A pass that they
    /// cannot serve returns an error.
    pub fn set_tuning(&mut self, problem: impl Into<Problem>, tuning: LayerTuning) {
        self.tunings.insert(problem.into(), tuning);
    }

    /// The strategies and tiles that were set for tensors of this shape and storage type.
    pub fn tuning(&self, problem: impl Into<Problem>) -> LayerTuning {
        self.tunings
            .get(&problem.into())
            .copied()
            .unwrap_or_default()
    }

    /// Sets which parts of the layer training does not change. Evaluation is the same.
    ///
    /// # Errors
    /// [`PlanError::NoRunningStatistics`] for statistics that the layer does not keep.
    pub fn freeze(&mut self, freeze: Freeze) -> Result<(), Error> {
        if freeze.statistics && !self.config().track_running_stats {
            return Err(PlanError::NoRunningStatistics.into());
        }
        self.freeze = freeze;
        Ok(())
    }

    /// The parts of the layer that training does not change.
    pub fn frozen_parts(&self) -> Freeze {
        self.freeze
    }

    /// Forward in training: `(y, saved)`. Normalizes by the batch's own statistics and moves the running ones. An empty
    /// batch gives an empty output and leaves them as they are. With statistics [frozen](Self::freeze), and of a single value
    /// under [`SingleValue::Running`](super::SingleValue::Running), this is [`frozen`](Self::frozen).
    ///
    /// # Errors
    /// [`PlanError`](crate::PlanError) for a shape that the layer cannot train on, [`TensorError`](crate::TensorError) for a tensor of another
    /// device or a residual that does not fit, [`GpuError`](crate::GpuError). The running statistics have not moved then.
    pub fn train<'a>(&mut self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        let input = input.into();
        if self.freeze.statistics || self.config.running_stands_in(input.x.shape()) {
            return self.frozen(input);
        }
        input.check(&self.gpu, self.config.epilogue)?;
        let x = input.x;
        let options = TrainOptions::default().tuning(self.tuning(x.problem()).train);
        let plan = TrainPlan::with_options(self.gpu.kernels(), x.problem(), &self.config, options)?;
        let y = like(x)?;
        let statistics = self.gpu.new_buffer("saved", plan.saved_bytes())?;
        let scratch = self.gpu.new_buffer("scratch", plan.scratch_bytes())?;
        let buffers = TrainBuffers::new(x.slice(), y.slice(), statistics.slice(..));
        let step = plan.bind(
            &buffers
                .affine(self.parameters.slice())
                .running(self.running_slice())
                .residual(input.residual_slice())
                .scratch(scratch.slice(..)),
        )?;
        self.gpu.submit(|encoder| step.encode(encoder))?;
        let saved = self.saved(x, &y, statistics, false);
        Ok((y, saved))
    }

    /// Forward outside training: normalizes by the running statistics, and changes nothing. Without `track_running_stats`,
    /// by the batch's own statistics; [`train`](Self::train) computes the same then, and leaves what backward needs.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn eval<'a>(&self, input: impl Into<Input<'a>>) -> Result<Tensor, Error> {
        let input = input.into();
        let (y, step, _) = self.evaluation(input)?;
        self.gpu.submit(|encoder| step.encode(encoder))?;
        Ok(y)
    }

    /// Forward outside training, to be trained through: `(y, saved)`. As [`eval`](Self::eval), but backward will use the
    /// statistics of this moment, even if training moves the layer's own in between. Without `track_running_stats` backward
    /// goes through the batch's own statistics, as in torch.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn frozen<'a>(&self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        let input = input.into();
        let (y, step, own) = self.evaluation(input)?;
        let Some(running) = &self.running else {
            self.gpu.submit(|encoder| step.encode(encoder))?;
            let saved = self.saved(input.x, &y, own, false);
            return Ok((y, saved));
        };
        let statistics = self.gpu.new_buffer("saved", running.size())?;
        self.gpu.submit(|encoder| {
            step.encode(encoder);
            encoder.copy_buffer_to_buffer(running, 0, &statistics, 0, running.size());
        })?;
        let saved = self.saved(input.x, &y, statistics, true);
        Ok((y, saved))
    }

    /// The output of an evaluation, the step that computes it, and the batch's own statistics if it computes any.
    fn evaluation(&self, input: Input<'_>) -> Result<(Tensor, Step, wgpu::Buffer), Error> {
        input.check(&self.gpu, self.config.epilogue)?;
        let x = input.x;
        let options = EvalOptions::default().tuning(self.tuning(x.problem()).eval);
        let plan = EvalPlan::with_options(self.gpu.kernels(), x.problem(), &self.config, options)?;
        let y = like(x)?;
        let saved = self.gpu.new_buffer("saved", plan.saved_bytes())?;
        let scratch = self.gpu.new_buffer("scratch", plan.scratch_bytes())?;
        let buffers = EvalBuffers::new(x.slice());
        let step = plan.bind(
            &buffers
                .y(y.slice())
                .affine(self.parameters.slice())
                .running(self.running_slice())
                .residual(input.residual_slice())
                .saved(saved.slice(..))
                .scratch(scratch.slice(..)),
        )?;
        Ok((y, step, saved))
    }

    /// The gradients of the forward pass that left `saved`, given the gradient `dy` of its output, by the weight as it is
    /// now.
    ///
    /// # Errors
    /// [`BackwardError`], which gives `saved` back, with [`TensorError`](crate::TensorError) for a `saved` of another layer
    /// or a `dy` of another shape, storage type or device, or with [`GpuError`](crate::GpuError). It converts to
    /// [`Error`].
    pub fn backward(&self, saved: Saved, dy: &Tensor) -> Result<Gradients, BackwardError> {
        let gradients = self.backward_with(saved, dy, Wanted::default())?;
        Ok(gradients.all(dy))
    }

    /// As [`backward`](Self::backward), with a choice of gradients.
    ///
    /// # Errors
    /// As [`backward`](Self::backward), and [`PlanError::Unsupported`](crate::PlanError::Unsupported) if no gradient is wanted.
    pub fn backward_with(
        &self,
        saved: Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<Gradients<Option<Tensor>>, BackwardError> {
        self.gradients(&saved, dy, wanted)
            .map_err(|error| saved.refused(error))
    }

    /// Is `saved` the layer's, and does the gradient fit?
    pub(crate) fn check_backward(
        &self,
        saved: &Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<(), Error> {
        saved.check(self.id, &self.gpu, dy, wanted.dadded)?;
        match wanted.dadded {
            None => Ok(()),
            Some(_) => Err(Error::Plan(PlanError::Unsupported {
                field: "dadded",
                reason: "BatchNorm adds no other gradient to dx; add it after the pass",
            })),
        }
    }

    /// What is wanted, without what is frozen.
    pub(crate) fn unfrozen<'a>(&self, mut wanted: Wanted<'a>) -> Wanted<'a> {
        wanted.parameters &= !self.freeze.parameters;
        wanted
    }

    pub(crate) fn gradients(
        &self,
        saved: &Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<Gradients<Option<Tensor>>, Error> {
        self.check_backward(saved, dy, wanted)?;
        let wanted = self.unfrozen(wanted);
        let problem = saved.x.problem();
        let tuning = self.tuning(problem);
        let options = BackwardOptions {
            frozen: saved.frozen,
            dx: wanted.dx,
            parameters: wanted.parameter_gradients(),
            tuning: if saved.frozen {
                tuning.frozen_backward
            } else {
                tuning.backward
            },
        };
        let kernels = self.gpu.kernels();
        let plan = BackwardPlan::with_options(kernels, problem, &self.config, options)?;
        let gradients =
            wanted.allocate(saved, dy, self.config.affine_rows(), plan.grads_bytes())?;
        let scratch = self.gpu.new_buffer("scratch", plan.scratch_bytes())?;
        let statistics = saved.statistics.slice(..);
        let buffers = BackwardBuffers::new(saved.x.slice(), dy.slice());
        let step = plan.bind(
            &buffers
                .dx(gradients.dx_slice(wanted))
                .saved((!saved.frozen).then_some(statistics))
                .running(saved.frozen.then_some(statistics))
                .affine(self.parameters.slice())
                .grads(gradients.buffer().map(|buffer| buffer.slice(..)))
                .output(saved.y.as_ref().map(Tensor::slice))
                .dresidual(gradients.dresidual.as_ref().map(Tensor::slice))
                .scratch(scratch.slice(..)),
        )?;
        self.gpu.submit(|encoder| step.encode(encoder))?;
        Ok(gradients)
    }

    /// Tells the layer from others.
    pub(crate) fn id(&self) -> LayerId {
        self.id
    }

    pub(crate) fn affine_slice(&self) -> Option<wgpu::BufferSlice<'_>> {
        self.parameters.slice()
    }

    pub(crate) fn running_slice(&self) -> Option<wgpu::BufferSlice<'_>> {
        self.running.as_ref().map(|buffer| buffer.slice(..))
    }

    /// What a forward pass by these statistics leaves for backward.
    pub(crate) fn saved(
        &self,
        x: &Tensor,
        y: &Tensor,
        statistics: wgpu::Buffer,
        frozen: bool,
    ) -> Saved {
        Saved::new(self.id, self.config.epilogue, x, y, statistics, frozen)
    }
}
