//! Forward in training: the moments of this rank, those of all ranks, and the output by them.

use super::layer::SyncBatchNorm;
use super::merge::Moments;
use super::message::Operation;
use super::saved::Saved;
use crate::batch_norm::{
    ApplyBuffers, ApplyPlan, FinalizeBuffers, FinalizePlan, Input, SingleValue, Step,
};
use crate::error::{Error, SyncError, TensorError};
use crate::gpu::{Reading, Tensor};
use crate::norm::layer::{LayerId, like};
use crate::shape::Shape;

/// A forward pass whose moments are on their way to the host: [`SyncBatchNorm::begin_train`].
#[derive(Debug)]
#[must_use = "the other ranks wait for it: pass it to finish_train"]
pub struct TrainPending {
    layer: LayerId,
    x: Tensor,
    residual: Option<Tensor>,
    /// What is under way; an error is for `finish_train` to tell.
    begun: Result<Begun, Error>,
}

#[derive(Debug)]
enum Begun {
    /// There are no other ranks. Everything is still to be done.
    Alone,
    /// The statistics are frozen, so that the other ranks have no part in it.
    Frozen,
    Stats(Box<Stats>),
}

/// Everything that can fail on this rank alone has been done.
#[derive(Debug)]
struct Stats {
    reading: Reading,
    y: Tensor,
    /// Those of this rank, and then of all.
    moments: wgpu::Buffer,
    statistics: wgpu::Buffer,
    finalize: Step,
    apply: Step,
}

impl SyncBatchNorm {
    /// Forward in training: `(y, saved)`. Normalizes by the statistics of the batches of all ranks together, and moves the
    /// running ones, on every rank by the same. Ranks may have different numbers of values, and none. If no rank has any, no
    /// running statistic moves.
    ///
    /// In a group of one it is [`BatchNorm::train`](crate::BatchNorm::train).
    ///
    /// # Errors
    /// As [`BatchNorm::train`](crate::BatchNorm::train), and [`SyncError`]. If any rank gets an error before its numbers
    /// are exchanged, all ranks get one. [`SyncError::TooFewValues`] if all ranks together have one value per channel, and
    /// [`single_value`](crate::BatchNormConfig::single_value) makes that an error. The running statistics have not moved
    /// then.
    pub fn train<'a>(&mut self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        let pending = self.begin_train(input);
        self.finish_train(pending)
    }

    /// Begins [`train`](Self::train): computes this rank's moments and starts their way to the host. It exchanges nothing,
    /// so that the caller can submit work that does not depend on the output, of which
    /// [`finish_train`](Self::finish_train) waits for none. It cannot fail: what went wrong is for `finish_train` to tell,
    /// which tells it to the other ranks, too.
    pub fn begin_train<'a>(&self, input: impl Into<Input<'a>>) -> TrainPending {
        let input = input.into();
        TrainPending {
            layer: self.layer.id(),
            x: input.x.clone(),
            residual: input.residual.cloned(),
            begun: match (self.layer.frozen_parts().statistics, self.alone()) {
                (true, _) => Ok(Begun::Frozen),
                (false, true) => Ok(Begun::Alone),
                (false, false) => self.stats(input).map(|stats| Begun::Stats(Box::new(stats))),
            },
        }
    }

    fn stats(&self, input: Input<'_>) -> Result<Stats, Error> {
        let (gpu, config) = (self.gpu(), self.config());
        input.check(gpu, config.epilogue)?;
        // Whether there are enough values is for all ranks together to say.
        config.check_batch_statistics(Shape::nc(0, self.channels()))?;
        let (x, kernels) = (input.x, gpu.kernels());
        let finalize = FinalizePlan::new(kernels, config, 1)?;
        let apply = ApplyPlan::new(kernels, x.problem(), config)?;
        let y = like(x)?;
        let moments = self.layer.new_moments()?;
        let statistics = gpu.new_buffer("saved", finalize.saved_bytes())?;
        let stats = self.layer.stats_step(x, &moments)?;
        let buffers = FinalizeBuffers::new(moments.slice(..), statistics.slice(..))
            .running(self.layer.running_slice());
        let finalize = finalize.bind(&buffers)?;
        let buffers = ApplyBuffers::new(x.slice(), statistics.slice(..))
            .y(y.slice())
            .affine(self.layer.affine_slice())
            .residual(input.residual_slice());
        let apply = apply.bind(&buffers)?;
        let rows = config.moment_rows().mean.start..config.moment_rows().m2.end;
        let reading = gpu.submit_and_read(|encoder| stats.encode(encoder), &moments, rows)?;
        Ok(Stats {
            reading,
            y,
            moments,
            statistics,
            finalize,
            apply,
        })
    }

    /// Finishes [`train`](Self::train): exchanges moments with the other ranks, moves the running statistics and
    /// normalizes. Ranks that have begun several passes finish them in the same order.
    ///
    /// # Errors
    /// As [`train`](Self::train), and [`TensorError::ForeignSaved`] if another layer has begun it.
    pub fn finish_train(&mut self, pending: TrainPending) -> Result<(Tensor, Saved), Error> {
        let TrainPending {
            layer,
            x,
            residual,
            begun,
        } = pending;
        let own = layer == self.layer.id();
        let foreign = || Error::from(TensorError::ForeignSaved);
        let input = match &residual {
            Some(residual) => Input::from((&x, residual)),
            None => Input::from(&x),
        };
        let stats = match begun {
            Ok(Begun::Alone | Begun::Frozen) if !own => return Err(foreign()),
            Ok(Begun::Alone) => {
                let (y, saved) = self.layer.train(input)?;
                return Ok((y, Saved::of_rank(saved)));
            }
            Ok(Begun::Frozen) => return self.frozen(input),
            Ok(Begun::Stats(_)) if !own => Err(foreign()),
            Ok(Begun::Stats(stats)) => Ok(*stats),
            Err(error) => Err(error),
        };
        let count = x.shape().values_per_channel().unwrap_or(0) as u64;
        let own = stats.and_then(|stats| {
            let rows: Vec<f32> = stats.reading.finish()?;
            let own = Moments::of_rows(count, self.channels(), &rows);
            let own = own.unwrap_or_else(|| Moments::empty(self.channels()));
            let rest = (stats.y, stats.moments, stats.statistics);
            Ok((own, (rest, [stats.finalize, stats.apply])))
        });
        let step = self.step();
        let dtype = (count > 0).then(|| x.dtype());
        let header = self.header(Operation::Forward, step).dtype(dtype);
        let (all, rest) = self.group.exchange_with(&header, own)?;
        let ((y, moments, statistics), [finalize, apply]) = rest;
        match all.count {
            0 => {}
            1 if self.config().single_value == SingleValue::Error => {
                return Err(SyncError::TooFewValues.into());
            }
            _ => {
                let rows = all.device_rows();
                let gpu = self.gpu();
                gpu.write("moments", &moments, 0, bytemuck::cast_slice(&rows))?;
                gpu.submit(|encoder| {
                    finalize.encode(encoder);
                    apply.encode(encoder);
                })?;
            }
        }
        self.next_step();
        let inner = self.layer.saved(&x, &y, statistics, false);
        let saved = Saved {
            inner,
            step: Some(step),
        };
        Ok((y, saved))
    }
}
