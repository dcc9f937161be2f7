//! InstanceNorm with running statistics: torch's `track_running_stats=True`.

use crate::batch_norm::{
    BackwardError, BatchNorm, BatchNormConfig, Gradients, Input, InstancesBuffers, InstancesPlan,
    Saved, SingleValue, Wanted,
};
use crate::error::{Error, PlanError};
use crate::gpu::{Gpu, Step, Tensor};
use crate::instance_norm::InstanceNormConfig;
use crate::norm::layer::{LayerId, like};
use crate::norm::sample::{LayerTuning, Passes};

/// An InstanceNorm that keeps running statistics, as torch's with `track_running_stats=True`: training normalizes each channel
/// of each sample by its own statistics, evaluation by the running ones.
///
/// Evaluation is [`BatchNorm`]'s, and a BatchNorm is what this layer is made of: it has the weight, the bias, the running
/// statistics, their momentum and counter, `eps` and the epilogue. Without parameters, as is torch's default here, it is a
/// `BatchNormConfig` with `affine(false)`.
///
/// ```no_run
/// # use wgpu_norm::{BatchNormConfig, Gpu, Shape, TrackedInstanceNorm};
/// let gpu = Gpu::open()?;
/// let mut norm = TrackedInstanceNorm::new(BatchNormConfig::new(2).affine(false).build(&gpu)?)?;
/// let x = gpu.tensor(Shape::ncl(1, 2, 3), &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0])?;
/// let (y, saved) = norm.train(&x)?; // by the statistics of each instance; moves the running ones
/// let gradients = norm.backward(saved, &y)?;
/// let y = norm.eval(&x)?; // by the running statistics
/// println!("{:?} {:?}", y.read()?, norm.batch_norm().state()?);
/// # Ok::<(), wgpu_norm::Error>(())
/// ```
///
/// # What moves the running statistics
///
/// The running mean moves by the average of the instances' means over the samples, and the running variance by the average of
/// their variances, unbiased unless the BatchNorm says otherwise. So the running variance is that *within* instances: what
/// tells their means apart is left out. Where instances differ, values have a larger variance in evaluation than the 1 that
/// training gives them, and the network behind sees other values than it was trained with. This is torch's definition. An
/// [`InstanceNorm`](crate::InstanceNorm), which evaluates as it trains, does not have that gap.
///
/// Where this layer differs from torch:
///
/// * `num_batches_tracked` counts. torch's InstanceNorm has it in its state, and leaves it at 0.
/// * [`Momentum::Cumulative`](crate::batch_norm::Momentum::Cumulative) averages all batches. torch's `momentum=None` leaves
///   InstanceNorm's running statistics as they were made, 0 and 1.
/// * An empty batch leaves the running statistics as they are. torch's are NaN from then on.
///
/// In a pre-norm block, [`train_added`](Self::train_added) adds the residual in the same pass. Evaluation, which is the BatchNorm's,
/// has no such call: add the tensors, and call [`eval`](Self::eval).
///
/// An instance whose values are not finite makes the averages of its channel so, for which the BatchNorm has a policy
/// ([`NonFinite`](crate::batch_norm::NonFinite)).
#[derive(Debug)]
pub struct TrackedInstanceNorm {
    batch_norm: BatchNorm,
    /// Of what training saves, so that the BatchNorm does not take it for its own.
    id: LayerId,
}

/// Has an InstanceNorm with running statistics these settings?
fn check(config: &BatchNormConfig) -> Result<(), PlanError> {
    if !config.track_running_stats {
        return Err(PlanError::NoRunningStatistics);
    }
    match config.single_value {
        SingleValue::Error => Ok(()),
        _ => Err(PlanError::Unsupported {
            field: "single_value",
            reason: "an InstanceNorm trains on no instance of one value; leave it at SingleValue::Error",
        }),
    }
}

impl TrackedInstanceNorm {
    /// The layer with the parameters and running statistics of a BatchNorm, which stay as they are.
    ///
    /// # Errors
    /// [`PlanError::NoRunningStatistics`] for a BatchNorm that keeps none: an [`InstanceNorm`](crate::InstanceNorm) does
    /// without. [`PlanError::Unsupported`] for a [`SingleValue`] other than `Error`: an instance of one value has no variance,
    /// however many samples there are, and is always refused in training. The BatchNorm is gone then.
    pub fn new(batch_norm: BatchNorm) -> Result<Self, Error> {
        check(batch_norm.config())?;
        Ok(Self {
            batch_norm,
            id: LayerId::new(),
        })
    }

    /// The BatchNorm, with parameters and running statistics as they are.
    pub fn into_batch_norm(self) -> BatchNorm {
        self.batch_norm
    }

    /// The BatchNorm that has the parameters and the running statistics: to read them, and to save them to a file, where they
    /// have the names of torch's InstanceNorm.
    pub fn batch_norm(&self) -> &BatchNorm {
        &self.batch_norm
    }

    /// As [`batch_norm`](Self::batch_norm), to set parameters, to load a state, to [freeze](BatchNorm::freeze) parts and to
    /// tune evaluation. What the BatchNorm itself computes of batches, such as its drift, is of whole batches.
    pub fn batch_norm_mut(&mut self) -> &mut BatchNorm {
        &mut self.batch_norm
    }

    /// The device of the layer.
    pub fn gpu(&self) -> &Gpu {
        self.batch_norm.gpu()
    }

    /// Forward in training: `(y, saved)`. Normalizes each channel of each sample by its own statistics, and moves the running
    /// ones, in one submission. An empty batch gives an empty output, and leaves them as they are. With statistics
    /// [frozen](BatchNorm::freeze) this is [`frozen`](Self::frozen).
    ///
    /// # Errors
    /// [`PlanError::TooFewSpatialValues`] for instances of one value, another [`PlanError`] for a shape that the layer cannot
    /// train on or an `eps` of 0, [`TensorError`](crate::TensorError) for a tensor of another device or a residual that does not
    /// fit, [`GpuError`](crate::GpuError). The running statistics have not moved then.
    pub fn train<'a>(&mut self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        let input = input.into();
        // Another BatchNorm may have been put in its place.
        check(self.batch_norm.config())?;
        if self.batch_norm.frozen_parts().statistics {
            return self.frozen(input);
        }
        input.check(self.gpu(), self.batch_norm.config().epilogue)?;
        self.forward(input, None)
    }

    /// As [`train`](Self::train), of a pre-norm block, which adds before it normalizes: of `(&x, &residual)` it makes `(y, added,
    /// saved)`, with `added = x + residual` as it is stored. The running statistics move by the moments of `added`. One pass over
    /// memory less than an addition and [`train`](Self::train), with the same bits.
    ///
    /// Backward's `dx` is the gradient of both tensors. The block's other way gives a gradient of `added`:
    /// [`Wanted::dadded`] takes it.
    ///
    /// # Errors
    /// As [`train`](Self::train), and [`PlanError::Unsupported`] with an epilogue that adds, or with statistics
    /// [frozen](BatchNorm::freeze).
    pub fn train_added<'a>(
        &mut self,
        input: impl Into<Input<'a>>,
    ) -> Result<(Tensor, Tensor, Saved), Error> {
        let input = input.into();
        check(self.batch_norm.config())?;
        if self.batch_norm.frozen_parts().statistics {
            return Err(Error::Plan(PlanError::Unsupported {
                field: "statistics",
                reason: "are frozen, and the BatchNorm's passes add no residual first; add the tensors, and call train",
            }));
        }
        input.check_tensors(self.gpu(), true)?;
        let added = like(input.x)?;
        let (y, saved) = self.forward(input, Some(&added))?;
        Ok((y, added, saved))
    }

    /// Normalizes the input, or its sum with the residual, which goes to `added`, and moves the running statistics.
    fn forward(&self, input: Input<'_>, added: Option<&Tensor>) -> Result<(Tensor, Saved), Error> {
        let shape = input.x.shape();
        let passes = self.passes();
        let rows = passes.config.moment_rows(shape.batch());
        let bytes = rows.map_or(0, |rows| rows.bytes());
        let moments = self.gpu().new_buffer("moments", bytes)?;
        let (y, saved, normalize) = passes.forward(input, added, Some(&moments))?;
        let average = match shape.elements() {
            Some(0) => None,
            _ => Some(self.average(shape.batch(), &moments)?),
        };
        self.gpu().submit(|encoder| {
            normalize.encode(encoder);
            if let Some(average) = &average {
                average.encode(encoder);
            }
        })?;
        Ok((y, saved))
    }

    /// The step that moves the running statistics by the moments of the instances of so many samples.
    fn average(&self, samples: usize, moments: &wgpu::Buffer) -> Result<Step, Error> {
        // A tensor with more samples has had no plan.
        let samples = samples.try_into().unwrap_or(u32::MAX);
        let config = self.batch_norm.config();
        let plan = InstancesPlan::new(self.gpu().kernels(), config, samples)?;
        let buffers = InstancesBuffers::new(moments.slice(..));
        Ok(plan.bind(&buffers.running(self.batch_norm.running_slice()))?)
    }

    /// Forward outside training: [`BatchNorm::eval`], by the running statistics. An instance may have one value.
    ///
    /// # Errors
    /// As [`BatchNorm::eval`].
    pub fn eval<'a>(&self, input: impl Into<Input<'a>>) -> Result<Tensor, Error> {
        check(self.batch_norm.config())?;
        self.batch_norm.eval(input)
    }

    /// Forward outside training, to be trained through: [`BatchNorm::frozen`], by the running statistics.
    ///
    /// # Errors
    /// As [`BatchNorm::frozen`].
    pub fn frozen<'a>(&self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        check(self.batch_norm.config())?;
        self.batch_norm.frozen(input)
    }

    /// The gradients of the forward pass that left `saved`, [`train`](Self::train) or [`frozen`](Self::frozen), given the
    /// gradient `dy` of its output, by the weight as it is now.
    ///
    /// # Errors
    /// As [`BatchNorm::backward`].
    pub fn backward(&self, saved: Saved, dy: &Tensor) -> Result<Gradients, BackwardError> {
        let gradients = self.backward_with(saved, dy, Wanted::default())?;
        Ok(gradients.all(dy))
    }

    /// As [`backward`](Self::backward), with a choice of gradients.
    ///
    /// # Errors
    /// As [`BatchNorm::backward_with`].
    pub fn backward_with(
        &self,
        saved: Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<Gradients<Option<Tensor>>, BackwardError> {
        if !saved.is_of(self.id) {
            return self.batch_norm.backward_with(saved, dy, wanted);
        }
        let wanted = self.batch_norm.unfrozen(wanted);
        self.passes()
            .backward(&saved, dy, wanted)
            .map_err(|error| saved.refused(error))
    }

    /// The passes of an InstanceNorm with the settings and parameters of the BatchNorm.
    fn passes(&self) -> Passes<'_, InstanceNormConfig> {
        let config = self.batch_norm.config();
        Passes {
            gpu: self.gpu(),
            config: InstanceNormConfig::new(config.num_features)
                .eps(config.eps)
                .weight(config.weight)
                .bias(config.bias)
                .epilogue(config.epilogue)
                .track_running_stats(true),
            id: self.id,
            parameters: self.batch_norm.parameters(),
            tuning: LayerTuning::default(),
        }
    }
}
