//! Running statistics recomputed over a data set.

use super::layer::BatchNorm;
use super::pieces::{ApplyBuffers, ApplyPlan, FinalizeBuffers, FinalizePlan};
use super::policy::{NonFinite, RunningVariance, SingleValue};
use super::state::State;
use crate::error::{Error, PlanError};
use crate::gpu::Tensor;
use crate::norm::layer::{Input, like};
use crate::reference::Moments;
use crate::shape::Shape;

/// The most batches whose moments wait on the device to be read.
const PENDING: usize = 64;

/// Collects the statistics of a layer's inputs over a data set: the mean and the variance of all values, whatever batches they
/// come in. The moving average that training leaves is over the last batches alone, and over inputs that earlier weights have
/// made.
///
/// The moments of each batch are computed on the device, and combined on the host in f64. (An average of the batches'
/// variances, as a cumulative momentum gives, leaves out how far their means are apart.)
///
/// ```no_run
/// # fn f(bn: &mut wgpu_norm::BatchNorm, loader: Vec<wgpu_norm::Tensor>) -> Result<(), wgpu_norm::Error> {
/// let mut precise = bn.precise_statistics()?;
/// for x in &loader {
///     let y = precise.forward(x)?; // goes on to the next layer
/// }
/// let state = precise.finish()?;
/// bn.load_state(&state)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PreciseStatistics<'a> {
    layer: &'a BatchNorm,
    pending: Vec<wgpu::Buffer>,
    total: Vec<Moments>,
    batches: u64,
    /// Batches that were not finite in each channel, and are left out of it under a policy that says so.
    skipped: Vec<u32>,
}

impl BatchNorm {
    /// Begins to collect statistics.
    ///
    /// # Errors
    /// [`PlanError::NoRunningStatistics`].
    pub fn precise_statistics(&self) -> Result<PreciseStatistics<'_>, Error> {
        if !self.config().track_running_stats {
            return Err(PlanError::NoRunningStatistics.into());
        }
        Ok(PreciseStatistics {
            layer: self,
            pending: Vec::new(),
            total: vec![Moments::IDENTITY; self.config().num_features],
            batches: 0,
            skipped: vec![0; self.config().num_features],
        })
    }
}

impl PreciseStatistics<'_> {
    /// Adds a batch, and normalizes it by its own statistics, as training does, for the layers behind. Waits at every 64th
    /// batch.
    ///
    /// # Errors
    /// As [`BatchNorm::train`], and [`PlanError::TooFewValues`] for one value a channel if the layer's policy is not to
    /// normalize by it. The batch is not added then.
    pub fn forward<'a>(&mut self, input: impl Into<Input<'a>>) -> Result<Tensor, Error> {
        let input = input.into();
        let (gpu, x) = (self.layer.gpu(), input.x);
        self.layer.config().check_batch_statistics(x.shape())?;
        // The layer's running statistics stay, whatever the batch is like.
        let config = self
            .layer
            .config()
            .track_running_stats(false)
            .single_value(SingleValue::Update);
        input.check(gpu, config.epilogue)?;
        let moments = self.layer.new_moments()?;
        let stats = self.layer.stats_step(x, &moments)?;
        let plan = FinalizePlan::new(gpu.kernels(), &config, 1)?;
        let saved = gpu.new_buffer("saved", plan.saved_bytes())?;
        let finalize = plan.bind(&FinalizeBuffers::new(moments.slice(..), saved.slice(..)))?;
        let plan = ApplyPlan::new(gpu.kernels(), x.problem(), &config)?;
        let y = like(x)?;
        let buffers = ApplyBuffers::new(x.slice(), saved.slice(..));
        let apply = plan.bind(
            &buffers
                .y(y.slice())
                .affine(self.layer.affine_slice())
                .residual(input.residual_slice()),
        )?;
        gpu.submit(|encoder| {
            for step in [stats, finalize, apply] {
                step.encode(encoder);
            }
        })?;
        self.push(moments)?;
        Ok(y)
    }

    /// Adds a batch, for a layer whose output is not needed. Waits as [`forward`](Self::forward).
    ///
    /// # Errors
    /// As [`BatchNorm::moments`]. The batch is not added then.
    pub fn add(&mut self, x: &Tensor) -> Result<(), Error> {
        let moments = self.layer.new_moments()?;
        let stats = self.layer.stats_step(x, &moments)?;
        self.layer.gpu().submit(|encoder| stats.encode(encoder))?;
        self.push(moments)
    }

    fn push(&mut self, moments: wgpu::Buffer) -> Result<(), Error> {
        self.pending.push(moments);
        if self.pending.len() < PENDING {
            return Ok(());
        }
        let combined = self.combine();
        if combined.is_err() {
            self.pending.pop();
        }
        combined
    }

    /// Combines what waits on the device with the total, in the order of the batches.
    fn combine(&mut self) -> Result<(), Error> {
        let batches = self.layer.read_moments(&self.pending)?;
        self.pending.clear();
        let skips = self.layer.config().non_finite != NonFinite::Propagate;
        for batch in batches {
            // An empty batch is none.
            self.batches += u64::from(batch.iter().any(|moments| moments.count > 0.0));
            let channels = self.total.iter_mut().zip(&mut self.skipped);
            for ((total, skipped), moments) in channels.zip(batch) {
                match skips && !(moments.mean.is_finite() && moments.m2.is_finite()) {
                    true => *skipped += 1,
                    false => *total = total.combine(moments),
                }
            }
        }
        Ok(())
    }

    /// The moments of each channel over all batches so far. Waits.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError).
    pub fn moments(&mut self) -> Result<&[Moments], Error> {
        self.combine()?;
        Ok(&self.total)
    }

    /// The layer's state with the statistics of all batches in place of the running ones, and their number in place of the
    /// counter: for [`BatchNorm::load_state`], which refuses NaN. Batches that are not finite in a channel are left out of it
    /// under a [`NonFinite`] other than `Propagate`, and counted. The layer's own state if no batch was added. Waits.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError), and [`PlanError::TooFewValues`] for a single value, of which there is no unbiased
    /// variance.
    pub fn finish(mut self) -> Result<State, Error> {
        self.combine()?;
        let mut state = self.layer.read_state()?;
        if self.batches == 0 {
            return Ok(state);
        }
        let unbiased = self.layer.config().running_variance == RunningVariance::Unbiased;
        if unbiased && self.total.iter().any(|moments| moments.count == 1.0) {
            let shape = Shape::nc(1, self.total.len());
            return Err(PlanError::TooFewValues { shape }.into());
        }
        let rows = state.running_mean.iter_mut().flatten();
        let rows = rows.zip(state.running_var.iter_mut().flatten());
        // A channel of which no batch was finite keeps what it has.
        let moments = rows
            .zip(&self.total)
            .filter(|(_, moments)| moments.count > 0.0);
        for ((mean, var), moments) in moments {
            *mean = moments.mean as f32;
            *var = self.layer.running_variance_of(moments) as f32;
        }
        state.num_batches_tracked = Some(self.batches);
        let any = self.skipped.iter().any(|&batches| batches > 0);
        state.num_batches_skipped = any.then_some(self.skipped);
        Ok(state)
    }
}
