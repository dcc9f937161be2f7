//! The layer: a BatchNorm whose batch is spread over the ranks of a group.

use std::sync::atomic::{AtomicU64, Ordering};

use super::group::Group;
use super::message::{Header, Operation};
use super::saved::Saved;
use crate::batch_norm::{BatchNorm, BatchNormConfig, Freeze, Input};
use crate::error::Error;
use crate::gpu::{Gpu, Tensor};

/// What becomes of the gradients of weight and bias over the ranks. The gradient of the input is always that of the
/// whole batch.
///
/// A rank's own gradients are those of its own loss. Data-parallel training sums or averages all gradients of a network
/// at the end of a step, and then those of the norm must be [`Local`](Self::Local), or they would be summed twice. With a
/// mean over the *ranks*, as torch's DistributedDataParallel takes it, each rank's loss must be the mean over its own
/// samples, and all ranks must have the same number of them: the factor is 1 / ranks, whatever the shards.
/// [`Group::average`] takes the number of samples as a weight instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reduction {
    /// Each rank keeps its own, as in torch.
    #[default]
    Local,
    /// All ranks get the sum.
    Sum,
    /// All ranks get the sum divided by the number of ranks.
    Mean,
}

/// A [`BatchNorm`] that takes its statistics from the batches of all ranks of a [`Group`] together, in
/// [`train`](Self::train) and its backward pass. Made by [`BatchNorm::to_sync`].
///
/// ```no_run
/// # use wgpu_norm::sync::{Group, Threads};
/// # use wgpu_norm::{BatchNormConfig, Gpu, Shape};
/// # fn rank(engine: Threads, part: &[f32], dy: &wgpu_norm::Tensor) -> Result<(), wgpu_norm::Error> {
/// let group = Group::new(engine)?; // on every rank
/// let gpu = Gpu::open()?;
/// let mut bn = BatchNormConfig::new(64).build(&gpu)?.to_sync(&group);
/// let x = gpu.tensor(Shape::nchw(8, 64, 14, 14), part)?; // this rank's part of the batch; it may be empty
/// let (y, saved) = bn.train(&x)?;
/// let gradients = bn.backward(saved, dy)?;
/// let y = bn.eval(&x)?; // nothing is exchanged
/// # Ok(())
/// # }
/// ```
///
/// [`sync`](crate::sync) says what is exchanged, and what happens if a rank fails.
#[derive(Debug)]
pub struct SyncBatchNorm {
    pub(super) layer: BatchNorm,
    pub(super) group: Group,
    pub(super) reduction: Reduction,
    /// The layer's number in the group.
    number: u32,
    /// How many exchanges of the layer have succeeded, other than those of backward passes.
    step: AtomicU64,
}

impl BatchNorm {
    /// The layer with the batches of all ranks as one. Parameters and running statistics stay as they are: give all ranks
    /// the same, by the same initial values or [`SyncBatchNorm::broadcast_running`]. All ranks make their layers in the
    /// same order. Nothing is exchanged.
    pub fn to_sync(self, group: &Group) -> SyncBatchNorm {
        SyncBatchNorm {
            layer: self,
            number: group.new_layer(),
            group: group.clone(),
            reduction: Reduction::default(),
            step: AtomicU64::new(0),
        }
    }
}

impl SyncBatchNorm {
    /// The layer with statistics of its own rank's batches only. Parameters and running statistics stay as they are.
    /// Nothing is exchanged.
    pub fn to_local(self) -> BatchNorm {
        self.layer
    }

    /// As [`to_local`](Self::to_local), with [frozen](BatchNorm::freeze) statistics: for fine-tuning with batches too small for
    /// statistics. To thaw it, freeze nothing.
    ///
    /// # Errors
    /// [`PlanError::NoRunningStatistics`](crate::PlanError::NoRunningStatistics) if it has none. The layer is gone then.
    pub fn to_frozen(self) -> Result<BatchNorm, Error> {
        let mut layer = self.layer;
        layer.freeze(Freeze::default().statistics(true))?;
        Ok(layer)
    }

    /// Sets what becomes of the gradients of weight and bias. The same on all ranks.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// The layer of this rank: its parameters, its running statistics and its state.
    pub fn local(&self) -> &BatchNorm {
        &self.layer
    }

    /// As [`local`](Self::local), to load a state or set parameters. What is set on one rank only is not told to the
    /// others.
    pub fn local_mut(&mut self) -> &mut BatchNorm {
        &mut self.layer
    }

    /// The ranks.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The configuration that the layer was made with.
    pub fn config(&self) -> &BatchNormConfig {
        self.layer.config()
    }

    /// The device of this rank.
    pub fn gpu(&self) -> &Gpu {
        self.layer.gpu()
    }

    /// Forward outside training: [`BatchNorm::eval`]. Nothing is exchanged.
    ///
    /// # Errors
    /// As [`BatchNorm::eval`].
    pub fn eval<'a>(&self, input: impl Into<Input<'a>>) -> Result<Tensor, Error> {
        self.layer.eval(input)
    }

    /// Forward outside training, to be trained through: [`BatchNorm::frozen`]. Nothing is exchanged, in backward neither.
    ///
    /// # Errors
    /// As [`BatchNorm::frozen`].
    pub fn frozen<'a>(&self, input: impl Into<Input<'a>>) -> Result<(Tensor, Saved), Error> {
        let (y, saved) = self.layer.frozen(input)?;
        Ok((y, Saved::of_rank(saved)))
    }

    /// Is there nobody to exchange with?
    pub(super) fn alone(&self) -> bool {
        self.group.size() == 1
    }

    pub(super) fn channels(&self) -> usize {
        self.config().num_features
    }

    pub(super) fn header(&self, operation: Operation, step: u64) -> Header {
        Header::of_layer(operation, self.number, step, self.config())
            .reduction(self.reduction as u8)
    }

    pub(super) fn step(&self) -> u64 {
        self.step.load(Ordering::Relaxed)
    }

    /// An exchange has succeeded, on all ranks.
    pub(super) fn next_step(&self) {
        self.step.fetch_add(1, Ordering::Relaxed);
    }
}
