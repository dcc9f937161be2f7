//! Running statistics computed again, from all values of all ranks.

use super::layer::SyncBatchNorm;
use super::merge::{Moments, Recomputed};
use super::message::Operation;
use crate::batch_norm::{BatchNormConfig, NonFinite, RunningVariance, stats_step};
use crate::error::{Error, PlanError, SyncError, TensorError};
use crate::gpu::{Gpu, Tensor};
use crate::norm::layer::LayerId;

/// The moments of the inputs that a layer meets on this rank, batch after batch: "precise" statistics for
/// [`SyncBatchNorm::set_precise`].
///
/// Running statistics trail behind the weights, and weigh a small batch as a large one. After training, pass inputs of
/// the layer once more, with the weights as they are now. The moments are combined in f64, exactly for batches of any
/// size, and on each rank as many or as few as it has.
///
/// ```no_run
/// # use wgpu_norm::sync::{PreciseStats, SyncBatchNorm};
/// # fn example(bn: &mut SyncBatchNorm, inputs: &[wgpu_norm::Tensor]) -> Result<(), wgpu_norm::Error> {
/// let mut precise = PreciseStats::new(bn);
/// for x in inputs {
///     precise.add(x);
/// }
/// bn.set_precise(precise)?; // on all ranks
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PreciseStats {
    layer: LayerId,
    config: BatchNormConfig,
    gpu: Gpu,
    all: Result<Recomputed, Error>,
}

impl PreciseStats {
    /// Of no values yet.
    pub fn new(layer: &SyncBatchNorm) -> Self {
        Self {
            layer: layer.layer.id(),
            config: *layer.config(),
            gpu: layer.gpu().clone(),
            all: Ok(Recomputed {
                batches: 0,
                moments: Moments::empty(layer.channels()),
            }),
        }
    }

    /// Takes one input of the layer, unless it is not finite in some channel and the layer's
    /// [`non_finite`](BatchNormConfig::non_finite) keeps such batches out. Waits for the device. An error is for
    /// [`SyncBatchNorm::set_precise`] to tell, which tells it to the other ranks, too.
    pub fn add(&mut self, x: &Tensor) {
        if let Ok(all) = &mut self.all {
            match moments(&self.config, &self.gpu, x) {
                // Left out as a whole: all channels have the same number of values.
                Ok(more) if self.config.non_finite != NonFinite::Propagate && !more.is_finite() => {
                }
                Ok(more) => {
                    all.batches += u64::from(more.count > 0);
                    all.moments.add(&more);
                }
                Err(error) => self.all = Err(error),
            }
        }
    }
}

/// The moments of one input.
fn moments(config: &BatchNormConfig, gpu: &Gpu, x: &Tensor) -> Result<Moments, Error> {
    let moment_rows = config.moment_rows();
    let moments = gpu.new_buffer("moments", moment_rows.bytes())?;
    let step = stats_step(gpu, config, x, &moments)?;
    let rows = moment_rows.mean.start..moment_rows.m2.end;
    let reading = gpu.submit_and_read(|encoder| step.encode(encoder), &moments, rows)?;
    let count = x.shape().values_per_channel().unwrap_or(0) as u64;
    let rows: Vec<f32> = reading.finish()?;
    let moments = Moments::of_rows(count, config.num_features, &rows);
    Ok(moments.unwrap_or_else(|| Moments::empty(config.num_features)))
}

impl SyncBatchNorm {
    /// Sets the running statistics of all ranks to the mean and the variance of all values that all ranks have
    /// collected, and the counter to the most batches that a rank has given. Without any value nothing changes.
    ///
    /// # Errors
    /// What went wrong in [`PreciseStats::add`], on any rank; [`TensorError::ForeignSaved`] for those of another layer;
    /// [`PlanError::NoRunningStatistics`]; [`SyncError::TooFewValues`] for a single value, of which there is no unbiased
    /// variance; [`SyncError`]; [`GpuError`](crate::GpuError). No rank's statistics have moved then, unless its device fails.
    pub fn set_precise(&mut self, precise: PreciseStats) -> Result<(), Error> {
        let own = match self.config().track_running_stats {
            _ if precise.layer != self.layer.id() => Err(TensorError::ForeignSaved.into()),
            true => precise.all,
            false => Err(Error::Plan(PlanError::NoRunningStatistics)),
        };
        let header = self.header(Operation::Precise, self.step());
        let Recomputed { batches, moments } = self.group.exchange(&header, own)?;
        let count = moments.count;
        let biased = self.config().running_variance == RunningVariance::Biased;
        match count {
            0 => {
                self.next_step();
                Ok(())
            }
            1 if !biased => Err(SyncError::TooFewValues.into()),
            _ => {
                let divisor = if biased { count } else { count - 1 };
                let means = moments.mean.iter().map(|&mean| mean as f32);
                let vars = moments.m2.iter().map(|&m2| (m2 / divisor as f64) as f32);
                self.set_averages(&means.chain(vars).collect::<Vec<_>>(), batches)
            }
        }
    }
}
