//! The layer of every norm of this room: parameters, forward and backward.

use super::config::SampleNorm;
use super::options::{BackwardOptions, ForwardOptions};
use super::plans::{BackwardBuffers, BackwardPlan, ForwardBuffers, ForwardPlan};
use crate::error::Error;
use crate::gpu::{Gpu, Step, Tensor};
use crate::norm::layer::{
    BackwardError, Gradients, Input, LayerId, Parameters, Saved, Wanted, like,
};
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
}

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
    /// ([`SampleNorm::affine_rows`]), for an optimizer's kernel. `None` for a layer without parameters, or whose samples have their own.
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

    /// Forward of a pre-norm block, which adds before it normalizes, for the input `(&x, &residual)`: `(y, added, saved)` with `added = x + residual` as it is
    /// stored, and `y = norm(added)`. One pass over memory less than an addition and a norm, with the same bits.
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
        let (y, saved, step) = self.passes().forward(input, added, None)?;
        self.gpu.submit(|encoder| step.encode(encoder))?;
        Ok((y, saved))
    }

    fn passes(&self) -> Passes<'_, C> {
        Passes {
            gpu: &self.gpu,
            config: self.config,
            id: self.id,
            parameters: &self.parameters,
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
        self.passes()
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
        let options = ForwardOptions::default().prenorm(added.is_some());
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
        let options = BackwardOptions {
            dx: wanted.dx,
            parameters: wanted.parameter_gradients(),
            tuning: Tuning::default(),
            prenorm: wanted.dadded.is_some(),
        };
        let (kernels, problem) = (self.gpu.kernels(), saved.x.problem());
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
