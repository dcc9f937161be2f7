//! The statistics of a batch by themselves: to move the running ones without gradients, to compare with them, to collect them
//! over a data set.

use super::config::BatchNormConfig;
use super::layer::BatchNorm;
use super::pieces::{FinalizeBuffers, FinalizePlan, StatsBuffers, StatsPlan};
use super::policy::RunningVariance;
use crate::error::{Error, PlanError};
use crate::gpu::{Gpu, Step, Tensor};
use crate::norm::layer::check_device;
use crate::reference::Moments;

/// How far the statistics of a batch are from the running ones, channel by channel. Evaluation normalizes by the running
/// statistics, so a channel that has drifted is not normalized.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Drift {
    /// The batch's mean less the running one, in running standard deviations: `(mean - running_mean) / sqrt(running_var +
    /// eps)`. Without drift it is of order `1 / sqrt(values)` of independent values.
    pub mean: Vec<f32>,
    /// The batch's variance over the running one, each with `eps` added: 1 without drift.
    pub var: Vec<f32>,
}

impl Drift {
    /// The channel that has drifted the most, by the larger of the mean's shift and the logarithm of the variances' ratio, and
    /// how far. NaN is the farthest. `None` without channels.
    pub fn worst(&self) -> Option<(usize, f32)> {
        let channels = self.mean.iter().zip(&self.var);
        let distances = channels.map(|(mean, var)| match var.ln().abs() {
            ratio if mean.is_nan() || ratio.is_nan() => f32::NAN,
            ratio => mean.abs().max(ratio),
        });
        // A positive NaN is above all numbers in this order.
        distances
            .enumerate()
            .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
    }
}

impl BatchNorm {
    /// The moments of each channel of a batch. Waits for the device. The tensor may be empty, or have one value a channel.
    ///
    /// # Errors
    /// [`PlanError`] for a tensor of other channels, [`TensorError`](crate::TensorError) for one of another device,
    /// [`GpuError`](crate::GpuError).
    pub fn moments(&self, x: &Tensor) -> Result<Vec<Moments>, Error> {
        let moments = self.new_moments()?;
        let step = self.stats_step(x, &moments)?;
        self.gpu().submit(|encoder| step.encode(encoder))?;
        let mut all = self.read_moments(&[moments])?;
        Ok(all.pop().unwrap_or_default())
    }

    /// Moves the running statistics by a batch, as [`train`](Self::train) does, and computes nothing else: for data that shift
    /// after training. It moves frozen statistics, too. Does not wait.
    ///
    /// # Errors
    /// As [`train`](Self::train), and [`PlanError::NoRunningStatistics`].
    pub fn update_running_stats(&mut self, x: &Tensor) -> Result<(), Error> {
        let running = self
            .running_buffer()
            .ok_or(PlanError::NoRunningStatistics)?;
        if self.config().running_stands_in(x.shape()) {
            check_device(self.gpu(), "x", x)?;
            return Ok(());
        }
        self.config().check_batch_statistics(x.shape())?;
        let moments = self.new_moments()?;
        let stats = self.stats_step(x, &moments)?;
        let plan = FinalizePlan::new(self.gpu().kernels(), self.config(), 1)?;
        let saved = self.gpu().new_buffer("saved", plan.saved_bytes())?;
        let buffers = FinalizeBuffers::new(moments.slice(..), saved.slice(..));
        let finalize = plan.bind(&buffers.running(running.slice(..)))?;
        self.gpu().submit(|encoder| {
            stats.encode(encoder);
            finalize.encode(encoder);
        })?;
        Ok(())
    }

    /// Compares the statistics of a batch with the running ones. Waits for the device, and changes nothing.
    ///
    /// # Errors
    /// As [`moments`](Self::moments), [`PlanError::NoRunningStatistics`], and [`PlanError::TooFewValues`] for less than two
    /// values a channel.
    pub fn drift(&self, x: &Tensor) -> Result<Drift, Error> {
        if !self.config().track_running_stats {
            return Err(PlanError::NoRunningStatistics.into());
        }
        if x.shape().values_per_channel().is_some_and(|n| n < 2) {
            return Err(PlanError::TooFewValues { shape: x.shape() }.into());
        }
        let batch = self.moments(x)?;
        let state = self.read_state()?;
        let rows = [state.running_mean, state.running_var].map(Option::unwrap_or_default);
        let running = rows[0].iter().zip(&rows[1]);
        let eps = f64::from(self.config().eps);
        let (mean, var) = batch
            .iter()
            .zip(running)
            .map(|(batch, (&mean, &var))| {
                let running = f64::from(var) + eps;
                let shift = (batch.mean - f64::from(mean)) / running.sqrt();
                let own = self.running_variance_of(batch) + eps;
                (shift as f32, (own / running) as f32)
            })
            .unzip();
        Ok(Drift { mean, var })
    }

    /// The variance that goes into the running one.
    pub(super) fn running_variance_of(&self, moments: &Moments) -> f64 {
        match self.config().running_variance {
            RunningVariance::Unbiased => moments.m2 / (moments.count - 1.0),
            RunningVariance::Biased => moments.var(),
        }
    }

    pub(crate) fn new_moments(&self) -> Result<wgpu::Buffer, Error> {
        let bytes = self.config().moment_rows().bytes();
        self.gpu().new_buffer("moments", bytes)
    }

    /// The step that computes the moments of a batch.
    pub(crate) fn stats_step(&self, x: &Tensor, moments: &wgpu::Buffer) -> Result<Step, Error> {
        stats_step(self.gpu(), self.config(), x, moments)
    }

    /// Reads buffers of moments. Waits once.
    pub(super) fn read_moments(
        &self,
        buffers: &[wgpu::Buffer],
    ) -> Result<Vec<Vec<Moments>>, Error> {
        let channels = self.config().num_features;
        let ranges: Vec<_> = buffers
            .iter()
            .map(|buffer| (buffer, 0..buffer.size()))
            .collect();
        let all = self.gpu().read_many::<f32>(&ranges)?;
        let moments = |rows: Vec<f32>| {
            let row = |row: usize, channel: usize| f64::from(rows[row * channels + channel]);
            let channel = |c| Moments {
                mean: row(0, c) + row(1, c),
                m2: row(2, c),
                count: row(3, c),
            };
            (0..channels).map(channel).collect()
        };
        Ok(all.into_iter().map(moments).collect())
    }
}

/// The step that computes the moments of a batch for a layer of this configuration.
pub(crate) fn stats_step(
    gpu: &Gpu,
    config: &BatchNormConfig,
    x: &Tensor,
    moments: &wgpu::Buffer,
) -> Result<Step, Error> {
    check_device(gpu, "x", x)?;
    let plan = StatsPlan::new(gpu.kernels(), x.problem(), config)?;
    let scratch = gpu.new_buffer("scratch", plan.scratch_bytes())?;
    let buffers = StatsBuffers::new(x.slice(), moments.slice(..));
    Ok(plan.bind(&buffers.scratch(scratch.slice(..)))?)
}
