//! Backward: the sums of this rank, those of all ranks, and the gradients by them.

use super::layer::{Reduction, SyncBatchNorm};
use super::merge::Sums;
use super::message::Operation;
use super::saved::{BackwardError, Saved};
use crate::batch_norm::{
    BackwardApplyBuffers, BackwardApplyPlan, BackwardCombineBuffers, BackwardCombinePlan,
    BackwardReduceBuffers, BackwardReducePlan, Destination, Gradients, PieceOptions, Step, Wanted,
};
use crate::error::{BindError, Error, PlanError, TensorError};
use crate::gpu::{Reading, Tensor};

/// A backward pass whose sums are on their way to the host: [`SyncBatchNorm::begin_backward`].
#[derive(Debug)]
#[must_use = "the other ranks wait for it: pass it to finish_backward"]
pub struct BackwardPending {
    saved: Saved,
    dy: Tensor,
    /// What is under way; an error is for `finish_backward` to tell, to the other ranks, too.
    begun: Result<Begun, Error>,
}

#[derive(Debug)]
enum Begun {
    /// The other ranks have no part in it, whatever came of it.
    Done(Box<Result<Gradients<Option<Tensor>>, Error>>),
    Sums(Box<Reduced>),
}

/// Everything that can fail on this rank alone has been done.
#[derive(Debug)]
struct Reduced {
    reading: Reading,
    gradients: Gradients<Option<Tensor>>,
    /// Those of this rank, and then of all.
    sums: wgpu::Buffer,
    apply: Option<Step>,
    add: Option<Accumulation>,
}

/// The way by which gradients of parameters are added to those of earlier passes.
#[derive(Debug)]
struct Accumulation {
    /// The sums so far, and those of this pass.
    parts: wgpu::Buffer,
    /// Where the second part begins.
    second: u64,
    added: wgpu::Buffer,
    add: Step,
}

impl SyncBatchNorm {
    /// The gradients of the forward pass that left `saved`, as [`BatchNorm::backward`](crate::BatchNorm::backward). `dx` is
    /// the gradient by the batches of all ranks together, so every rank calls it for the same forward pass. The gradients
    /// of weight and bias are this rank's own, unless a [`Reduction`] says otherwise.
    ///
    /// # Errors
    /// [`BackwardError`], which gives `saved` back: as [`BatchNorm::backward`](crate::BatchNorm::backward), and
    /// [`SyncError`](crate::SyncError). If any rank gets an error before its numbers are exchanged, all ranks get one, and
    /// all can try again.
    pub fn backward(&self, saved: Saved, dy: &Tensor) -> Result<Gradients, BackwardError> {
        let gradients = self.backward_with(saved, dy, Wanted::default())?;
        Ok(gradients.all(dy))
    }

    /// As [`backward`](Self::backward), with a choice of gradients, the same on all ranks. Without `dx`, and with
    /// [`Reduction::Local`], nothing is exchanged.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn backward_with(
        &self,
        saved: Saved,
        dy: &Tensor,
        wanted: Wanted<'_>,
    ) -> Result<Gradients<Option<Tensor>>, BackwardError> {
        let pending = self.begin_backward(saved, dy, wanted);
        self.finish_backward(pending)
    }

    /// Begins [`backward_with`](Self::backward_with): computes this rank's sums and starts their way to the host. It
    /// exchanges nothing, and cannot fail, as [`begin_train`](Self::begin_train).
    pub fn begin_backward(&self, saved: Saved, dy: &Tensor, wanted: Wanted<'_>) -> BackwardPending {
        let alone = saved.step.is_none() || self.alone();
        let local = wanted.dx.is_none() && self.reduction == Reduction::Local;
        let begun = match alone || local {
            true => Ok(Begun::Done(Box::new(self.layer.gradients(
                &saved.inner,
                dy,
                wanted,
            )))),
            false => self
                .reduce(&saved, dy, wanted)
                .map(|reduced| Begun::Sums(Box::new(reduced))),
        };
        BackwardPending {
            saved,
            dy: dy.clone(),
            begun,
        }
    }

    fn reduce(&self, saved: &Saved, dy: &Tensor, wanted: Wanted<'_>) -> Result<Reduced, Error> {
        let (gpu, config, kernels) = (self.gpu(), self.config(), self.gpu().kernels());
        let saved = &saved.inner;
        self.layer.check_backward(saved, dy, wanted)?;
        let wanted = self.layer.unfrozen(wanted);
        let problem = saved.x.problem();
        let reduce = BackwardReducePlan::new(kernels, problem, config)?;
        let rows = config.affine_rows();
        let grads_bytes = if wanted.parameters { rows.bytes() } else { 0 };
        if wanted.dx.is_none() && grads_bytes == 0 {
            return Err(Error::Plan(PlanError::Unsupported {
                field: "wanted",
                reason: "no gradient is wanted; leave the pass out, on all ranks",
            }));
        }
        let gradients = wanted.allocate(saved, dy, rows, grads_bytes)?;
        let sums = gpu.new_buffer("sums", reduce.sums_bytes())?;
        let scratch = gpu.new_buffer("scratch", reduce.scratch_bytes())?;
        let statistics = saved.statistics.slice(..);
        let dresidual = gradients.dresidual.as_ref().map(Tensor::slice);
        let buffers =
            BackwardReduceBuffers::new(saved.x.slice(), dy.slice(), statistics, sums.slice(..))
                .affine(self.layer.affine_slice())
                .output(saved.y.as_ref().map(Tensor::slice))
                .dresidual(dresidual)
                .scratch(scratch.slice(..));
        let reduce = reduce.bind(&buffers)?;
        let apply = match wanted.dx {
            None => None,
            Some(destination) => {
                let options = PieceOptions::default().destination(destination);
                let plan = BackwardApplyPlan::with_options(kernels, problem, config, options)?;
                let buffers = BackwardApplyBuffers::new(
                    saved.x.slice(),
                    dy.slice(),
                    statistics,
                    sums.slice(..),
                );
                let dx = gradients.dx.as_ref().map(Tensor::slice);
                let step = plan.bind(
                    &buffers
                        .dx(dx.filter(|_| destination == Destination::OutOfPlace))
                        .affine(self.layer.affine_slice())
                        .dresidual(dresidual),
                )?;
                Some(step)
            }
        };
        let add = match wanted.accumulate {
            Some(buffer) if grads_bytes > 0 => Some(self.accumulation(buffer, grads_bytes)?),
            _ => None,
        };
        let rows = config.sum_rows().dweight.start..config.sum_rows().dbias.end;
        let reading = gpu.submit_and_read(|encoder| reduce.encode(encoder), &sums, rows)?;
        Ok(Reduced {
            reading,
            gradients,
            sums,
            apply,
            add,
        })
    }

    /// The gradients in `buffer` and those of this pass are the sums of two parts.
    fn accumulation(&self, buffer: &wgpu::Buffer, bytes: u64) -> Result<Accumulation, Error> {
        let field = "accumulate";
        let needed = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        if !buffer.usage().contains(needed) {
            return Err(BindError::MissingUsage { field, needed }.into());
        }
        if buffer.size() < bytes {
            let (needed, got) = (bytes, buffer.size());
            return Err(BindError::TooSmall { field, needed, got }.into());
        }
        let (gpu, config) = (self.gpu(), self.config());
        let plan = BackwardCombinePlan::new(gpu.kernels(), config, 2)?;
        let parts = gpu.new_buffer("parts", plan.parts_bytes())?;
        let added = gpu.new_buffer("sums", plan.sums_bytes())?;
        let buffers = BackwardCombineBuffers::new(parts.slice(..), added.slice(..));
        Ok(Accumulation {
            add: plan.bind(&buffers)?,
            second: gpu.kernels().caps().align(config.sum_rows().bytes()),
            parts,
            added,
        })
    }

    /// Finishes [`backward_with`](Self::backward_with): exchanges sums with the other ranks and computes the gradients.
    /// Ranks that have begun several passes finish them in the same order.
    ///
    /// # Errors
    /// As [`backward`](Self::backward).
    pub fn finish_backward(
        &self,
        pending: BackwardPending,
    ) -> Result<Gradients<Option<Tensor>>, BackwardError> {
        let BackwardPending { saved, dy, begun } = pending;
        let gradients = match begun {
            Ok(Begun::Done(gradients)) => {
                let gradients = match saved.inner.is_of(self.layer.id()) {
                    true => *gradients,
                    false => Err(TensorError::ForeignSaved.into()),
                };
                return gradients.map_err(|error| saved.refused(error));
            }
            Ok(Begun::Sums(reduced)) => self.gradients(&saved, &dy, Ok(*reduced)),
            Err(error) => self.gradients(&saved, &dy, Err(error)),
        };
        gradients.map_err(|error| saved.refused(error))
    }

    fn gradients(
        &self,
        saved: &Saved,
        dy: &Tensor,
        reduced: Result<Reduced, Error>,
    ) -> Result<Gradients<Option<Tensor>>, Error> {
        let reduced = match saved.inner.is_of(self.layer.id()) {
            true => reduced,
            false => Err(TensorError::ForeignSaved.into()),
        };
        // What is exchanged has a step.
        let step = saved.step.unwrap_or_default();
        let count = saved.inner.x.shape().values_per_channel().unwrap_or(0) as u64;
        let own = reduced.and_then(|reduced| {
            let rows: Vec<f32> = reduced.reading.finish()?;
            let own = Sums::of_rows(count, self.channels(), &rows);
            let own = own.unwrap_or_else(|| Sums::empty(self.channels()));
            let parameters = own.scaled(1.0);
            let rest = (reduced.gradients, reduced.sums, reduced.apply, reduced.add);
            Ok((own, (parameters, rest)))
        });
        let dtype = (count > 0).then(|| dy.dtype());
        let header = self.header(Operation::Backward, step).dtype(dtype);
        let (all, (parameters, rest)) = self.group.exchange_with(&header, own)?;
        let (gradients, sums, apply, add) = rest;
        let parameters = match self.reduction {
            Reduction::Local => parameters,
            Reduction::Sum => all.scaled(1.0),
            Reduction::Mean => all.scaled(1.0 / self.group.size() as f64),
        };
        let gpu = self.gpu();
        gpu.write("sums", &sums, 0, bytemuck::cast_slice(&all.device_rows()))?;
        match (gradients.buffer(), &add) {
            (None, _) => {}
            (Some(_), Some(add)) => {
                let bytes = bytemuck::cast_slice(&parameters);
                gpu.write("parts", &add.parts, add.second, bytes)?;
            }
            (Some(buffer), None) => {
                let rows: Vec<f32> = self.present(&parameters);
                gpu.write("gradients", buffer, 0, bytemuck::cast_slice(&rows))?;
            }
        }
        gpu.submit(|encoder| {
            if let Some(apply) = &apply {
                apply.encode(encoder);
            }
            if let Some((buffer, add)) = gradients.buffer().zip(add.as_ref()) {
                let bytes = 4 * self.channels() as u64;
                let rows = || self.rows();
                for (sum, row) in rows() {
                    encoder.copy_buffer_to_buffer(buffer, row, &add.parts, sum, bytes);
                }
                add.add.encode(encoder);
                for (sum, row) in rows() {
                    encoder.copy_buffer_to_buffer(&add.added, sum, buffer, row, bytes);
                }
            }
        })?;
        Ok(gradients)
    }

    /// Where the rows of sums begin, and where those of the gradients that the layer has.
    fn rows(&self) -> impl Iterator<Item = (u64, u64)> + use<> {
        let (sums, grads) = (self.config().sum_rows(), self.config().affine_rows());
        let rows = [(sums.dweight, grads.weight), (sums.dbias, grads.bias)];
        rows.into_iter()
            .filter_map(|(sum, row)| Some((sum.start, row?.start)))
    }

    /// The rows [dweight: C] [dbias: C] of the parameters that the layer has.
    fn present(&self, rows: &[f32]) -> Vec<f32> {
        let row = |start: u64| {
            let start = start as usize / 4;
            rows.get(start..start + self.channels()).unwrap_or_default()
        };
        self.rows().flat_map(|(sum, _)| row(sum)).copied().collect()
    }
}
