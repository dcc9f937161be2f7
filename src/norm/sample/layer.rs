//! The layer of every norm of this room: parameters, forward and backward.

use std::collections::HashMap;

use super::config::SampleNorm;
use super::options::{BackwardOptions, ForwardOptions};
use super::plans::{BackwardBuffers, BackwardPlan, ForwardBuffers, ForwardPlan};
use crate::dtype::Problem;
use crate::error::{Error, TuneError};
use crate::gpu::{Gpu, Step, Tensor};
use crate::norm::layer::{
    BackwardError, Gradients, Input, LayerId, Parameters, Saved, Wanted, like,
};
use crate::norm::options::setters;
use crate::norm::tuner::Tuner;
use crate::norm::tuning::Tuning;

/// A layer on a device, of a norm whose statistics come from each sample alone.
///
/// Each call is one submission and allocates its results. It waits only where eight calls are under way.
///
/// ```no_run
/// # use wgpu_norm::{Gpu, InstanceNormConfig, Shape};
/// let gpu = Gpu::open()?;
/// let norm = InstanceNormConfig::new(1).affine(true).build(&gpu)?;
/// let x = gpu.tensor(Shape::nchw(2, 1, 1, 3), &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])?;
/// let (y, saved) = norm.train(&x)?;
/// let gradients = norm.backward(saved, &y)?;
/// println!("{:?} {:?}", gradients.dx.read()?, gradients.weight()?);
/// # Ok::<(), wgpu_norm::Error>(())
/// ```
#[derive(Debug)]
pub struct Layer<C> {
    gpu: Gpu,
    config: C,
    id: LayerId,
    parameters: Parameters,
    tunings: HashMap<Problem, LayerTuning>,
}

/// The tuning of each pass of a layer over one kind of tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerTuning {
    /// Of [`Layer::train`] and [`Layer::eval`].
    pub forward: Tuning,
    /// Of [`Layer::backward`], and of [`Layer::backward_with`] without [`Wanted::dadded`].
    pub backward: Tuning,
    /// Of [`Layer::train_added`] and [`Layer::eval_added`].
    pub added_forward: Tuning,
    /// Of [`Layer::backward_with`] with [`Wanted::dadded`].
    pub added_backward: Tuning,
}

setters!(LayerTuning:
    forward: Tuning, backward: Tuning, added_forward: Tuning, added_backward: Tuning);

impl<C: SampleNorm> Layer<C> {
    /// Makes the layer, with [`SampleNorm::initial_affine`] as parameters.
    ///
    /// # Errors
    /// [`PlanError`](crate::PlanError) for a configuration that fits no shape; [`GpuError`](crate::GpuError).
    pub(crate) fn new(gpu: &Gpu, config: C) -> Result<Self, Error> {
        config.check()?;
        Ok(Self {
            gpu: gpu.clone(),
            config,
            id: LayerId::new(),
            parameters: Parameters::new(gpu, config.affine_rows(), || config.initial_affine())?,
            tunings: HashMap::new(),
        })
    }

    /// The configuration that the layer was made with.
    pub fn config(&self) -> &C {
        &self.config
    }

    /// The device of the layer.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The parameters on the device: the f32 rows `[weight] [bias]` of those that the layer has
    /// ([`SampleNorm::affine_rows`]), for an optimizer's kernel. `None` for a layer without parameters, or whose samples have
    /// their own.
    pub fn affine_buffer(&self) -> Option<&wgpu::Buffer> {
        self.parameters.buffer()
    }

    /// Replaces the weight.
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

    /// Reads the weight; `None` if the layer has none. Waits for the device.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn weight(&self) -> Result<Option<Vec<f32>>, Error> {
        self.parameters.weight()
    }

    /// Reads the bias; `None` if the layer has none. Waits for the device.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn bias(&self) -> Result<Option<Vec<f32>>, Error> {
        self.parameters.bias()
    }

    /// Lets a tuner choose strategies and tiles for [`train`](Self::train), [`eval`](Self::eval) and
    /// [`backward`](Self::backward) over tensors of this shape and storage type. The tuner measures what it does not
    /// remember: a fraction of a second for each pass, and the time that the driver takes to compile the candidates.
    ///
    /// ```no_run
    /// # use wgpu_norm::layer_norm::Tuner;
    /// # use wgpu_norm::{Gpu, LayerNormConfig, Shape};
    /// # let gpu = Gpu::open()?;
    /// let mut tuner = Tuner::with_file(&gpu, "wgpu-norm.tuning")?;
    /// let mut norm = LayerNormConfig::new(768).build(&gpu)?;
    /// norm.tune(&mut tuner, Shape::nlc(4, 1024, 768))?;
    /// # Ok::<(), wgpu_norm::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tuner::train`], and [`TuneError::WrongDevice`]. The layer keeps its tuning then.
    pub fn tune(&mut self, tuner: &mut Tuner, problem: impl Into<Problem>) -> Result<(), Error> {
        let problem = problem.into();
        let [forward, backward] = self.measured(tuner, problem, false)?;
        let tuning = self.tuning(problem).forward(forward).backward(backward);
        self.set_tuning(problem, tuning);
        Ok(())
    }

    /// As [`tune`](Self::tune), for a layer of a pre-norm block: [`train_added`](Self::train_added),
    /// [`eval_added`](Self::eval_added), and [`backward_with`](Self::backward_with) with [`Wanted::dadded`].
    ///
    /// # Errors
    /// As [`tune`](Self::tune), and [`PlanError::Unsupported`](crate::PlanError::Unsupported) with an epilogue that adds.
    pub fn tune_added(
        &mut self,
        tuner: &mut Tuner,
        problem: impl Into<Problem>,
    ) -> Result<(), Error> {
        let problem = problem.into();
        let [forward, backward] = self.measured(tuner, problem, true)?;
        let tuning = self.tuning(problem).added_forward(forward);
        self.set_tuning(problem, tuning.added_backward(backward));
        Ok(())
    }

    /// The choices for forward and backward.
    fn measured(
        &self,
        tuner: &mut Tuner,
        problem: Problem,
        prenorm: bool,
    ) -> Result<[Tuning; 2], Error> {
        if !tuner.gpu().is(&self.gpu) {
            return Err(TuneError::WrongDevice.into());
        }
        let forward = ForwardOptions::default().prenorm(prenorm);
        let backward = BackwardOptions::default().prenorm(prenorm);
        Ok([
            tuner.sample_forward(problem, &self.config, forward)?,
            tuner.sample_backward(problem, &self.config, backward)?,
        ])
    }

    /// Sets strategies and tiles for the layer's passes over tensors of this shape and storage type. A pass that they
    /// cannot serve returns an error.
    pub fn set_tuning(&mut self, problem: impl Into<Problem>, tuning: LayerTuning) {
        self.tunings.insert(problem.into(), tuning);
    }

    /// The strategies and tiles that were set for tensors of this shape and storage type.
    pub fn tuning(&self, problem: impl Into<Problem>) -> LayerTuning {
        let tuning = self.tunings.get(&problem.into());
        tuning.copied().unwrap_or_default()
    }

    /// Forward, with what backward needs: `(y, saved)`.
    ///
    /// # Errors
    /// [`PlanError`](crate::PlanError) for a shape that the layer cannot normalize, [`TensorError`](crate::TensorError) for a
    /// tensor of another device or a residual that does not fit, [`GpuError`](crate::GpuError).
    pub fn train<'a>(&self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        let input = input.into();
        input.check_tensors(&self.gpu, self.config.epilogue().adds())?;
        self.forward(input, None)
    }

    /// Forward of a pre-norm block, which adds before it normalizes: of `(&x, &residual)` it makes `(y, added, saved)`, with
    /// `added = x + residual` as it is stored, and `y = norm(added)`. One pass over memory less than an addition and a norm, with
    /// the same bits.
    ///
    /// Backward's `dx` is the gradient of both tensors. The block's other way gives a gradient of `added`:
    /// [`Wanted::dadded`] takes it.
    ///
    /// # Errors
    /// As [`train`](Self::train), and [`PlanError::Unsupported`](crate::PlanError::Unsupported) with an epilogue that adds.
    pub fn train_added<'a>(
        &self,
        input: impl Into<Input<'a>>,
    ) -> Result<(Tensor, Tensor, Saved), Error> {
        let input = input.into();
        input.check_tensors(&self.gpu, true)?;
        let added = like(input.x)?;
        let (y, saved) = self.forward(input, Some(&added))?;
        Ok((y, added, saved))
    }

    /// As [`train_added`](Self::train_added), outside training: `(y, added)`.
    ///
    /// # Errors
    /// As [`train_added`](Self::train_added).
    pub fn eval_added<'a>(&self, input: impl Into<Input<'a>>) -> Result<(Tensor, Tensor), Error> {
        let (y, added, _) = self.train_added(input)?;
        Ok((y, added))
    }

    /// Normalizes the input, or its sum with the residual, which goes to `added`.
    fn forward(&self, input: Input<'_>, added: Option<&Tensor>) -> Result<(Tensor, Saved), Error> {
        let passes = self.passes(input.x.problem());
        let (y, saved, step) = passes.forward(input, added, None)?;
        self.gpu.submit(|encoder| step.encode(encoder))?;
        Ok((y, saved))
    }

    fn passes(&self, problem: Problem) -> Passes<'_, C> {
        Passes {
            gpu: &self.gpu,
            config: self.config,
            id: self.id,
            parameters: &self.parameters,
            tuning: self.tuning(problem),
        }
    }

    /// Forward outside training: the same output.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn eval<'a>(&self, input: impl Into<Input<'a>>) -> Result<Tensor, Error> {
        Ok(self.train(input)?.0)
    }

    /// The gradients of the forward pass that left `saved`, given the gradient `dy` of its output, by the weight as it is
    /// now. If the samples had parameters of their own, so have the gradients:
    /// [`Gradients::buffer`] has the rows of [`SampleNorm::affine_rows_of`].
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
    /// As [`backward`](Self::backward), and [`PlanError::Unsupported`](crate::PlanError::Unsupported) if no gradient is
    /// wanted.
    pub fn backward_with(
        &self,
        saved: Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<Gradients<Option<Tensor>>, BackwardError> {
        self.passes(saved.x.problem())
            .backward(&saved, dy, wanted)
            .map_err(|error| saved.refused(error))
    }
}

/// The passes of a layer, whoever owns its parameters.
#[derive(Debug)]
pub struct Passes<'a, C> {
    pub gpu: &'a Gpu,
    pub config: C,
    /// What tells its [`Saved`] from those of others.
    pub id: LayerId,
    pub parameters: &'a Parameters,
    pub tuning: LayerTuning,
}

impl<C: SampleNorm> Passes<'_, C> {
    /// The step that normalizes the input, or its sum with the residual, which goes to `added`, with what it writes: `(y,
    /// saved, step)`. A configuration that leaves moments has `moments` for them.
    pub fn forward(
        &self,
        input: Input<'_>,
        added: Option<&Tensor>,
        moments: Option<&wgpu::Buffer>,
    ) -> Result<(Tensor, Saved, Step), Error> {
        let x = input.x;
        let affine = self.sample_affine(&input)?;
        let prenorm = added.is_some();
        let options = ForwardOptions {
            tuning: match prenorm {
                true => self.tuning.added_forward,
                false => self.tuning.forward,
            },
            prenorm,
        };
        let kernels = self.gpu.kernels();
        let plan = ForwardPlan::with_options(kernels, x.problem(), &self.config, options)?;
        let y = like(x)?;
        let statistics = self.gpu.new_buffer("saved", plan.saved_bytes())?;
        let scratch = self.gpu.new_buffer("scratch", plan.scratch_bytes())?;
        let step = plan.bind(
            &ForwardBuffers::new(x.slice(), y.slice(), statistics.slice(..))
                .affine(self.affine(affine))
                .residual(input.residual_slice())
                .added(added.map(Tensor::slice))
                .moments(moments.map(|moments| moments.slice(..)))
                .scratch(scratch.slice(..)),
        )?;
        let (epilogue, normalized) = (self.config.epilogue(), added.unwrap_or(x));
        let saved = Saved::new(self.id, epilogue, normalized, &y, statistics, false);
        Ok((y, saved.with_affine(affine), step))
    }

    /// The parameters that come with an input whose samples have their own.
    fn sample_affine<'i>(&self, input: &Input<'i>) -> Result<Option<&'i Tensor>, Error> {
        if !self.config.members().per_sample {
            input.check_no_affine()?;
            return Ok(None);
        }
        let rows = self.config.affine_rows_of(input.x.shape().batch());
        Ok(input.affine_of(self.gpu, &rows)?)
    }

    /// The parameters of a pass: those of the samples, or the layer's own.
    fn affine<'s>(&'s self, samples: Option<&'s Tensor>) -> Option<wgpu::BufferSlice<'s>> {
        samples.map(Tensor::slice).or(self.parameters.slice())
    }

    /// The gradients that are wanted.
    pub fn backward(
        &self,
        saved: &Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<Gradients<Option<Tensor>>, Error> {
        saved.check(self.id, self.gpu, dy, wanted.dadded)?;
        let (kernels, problem) = (self.gpu.kernels(), saved.x.problem());
        let prenorm = wanted.dadded.is_some();
        let options = BackwardOptions {
            dx: wanted.dx,
            parameters: wanted.parameter_gradients(),
            tuning: match prenorm {
                true => self.tuning.added_backward,
                false => self.tuning.backward,
            },
            prenorm,
        };
        let plan = BackwardPlan::with_options(kernels, problem, &self.config, options)?;
        let rows = self.config.affine_rows_of(saved.x.shape().batch());
        let gradients = wanted.allocate(saved, dy, rows, plan.grads_bytes())?;
        let scratch = self.gpu.new_buffer("scratch", plan.scratch_bytes())?;
        let step = plan.bind(
            &BackwardBuffers::new(saved.x.slice(), dy.slice(), saved.statistics.slice(..))
                .dx(gradients.dx_slice(wanted))
                .affine(self.affine(saved.affine.as_ref()))
                .grads(gradients.buffer().map(|buffer| buffer.slice(..)))
                .dadded(wanted.dadded.map(Tensor::slice))
                .output(saved.y.as_ref().map(Tensor::slice))
                .dresidual(gradients.dresidual.as_ref().map(Tensor::slice))
                .scratch(scratch.slice(..)),
        )?;
        self.gpu.submit(|encoder| step.encode(encoder))?;
        Ok(gradients)
    }
}
