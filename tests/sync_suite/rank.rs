//! A rank of a group, and what it does in most cases.

use wgpu_norm::sync::{Gradients, Group, Saved, SyncBatchNorm};
use wgpu_norm::{BatchNorm, Dtype, Gpu, Layout, Problem, Shape};

use crate::common::noise;

/// One rank of a group.
pub struct Rank {
    pub group: Group,
    pub gpu: Gpu,
}

/// A batch of which each rank has some samples.
pub struct Shards {
    pub whole: Problem,
    /// Samples of each rank.
    samples: Vec<usize>,
    /// Values of the whole batch, in memory order.
    pub x: Vec<f32>,
    pub dy: Vec<f32>,
}

impl Shards {
    /// Images of 4 by 4 with 3 channels, around a mean of many deviations.
    pub fn images(seed: u64, samples: &[usize]) -> Self {
        let shape = Shape::nchw(samples.iter().sum(), 3, 4, 4);
        Self::new(shape.into(), seed, samples, 100.0)
    }

    pub fn new(whole: Problem, seed: u64, samples: &[usize], mean: f32) -> Self {
        let count = whole.shape.elements().unwrap();
        // As stored, so that all of them compute on the same values.
        let stored = |values: Vec<f32>| {
            let mut stored = whole.dtype.unpack(&whole.dtype.pack(&values));
            stored.truncate(count);
            stored
        };
        Self {
            whole,
            samples: samples.to_vec(),
            x: stored(noise(seed, count).iter().map(|v| mean + v).collect()),
            dy: stored(noise(seed + 1, count)),
        }
    }

    /// The problem of one rank.
    pub fn problem(&self, rank: usize) -> Problem {
        let mut dims = self.whole.shape.dims();
        dims[0] = self.samples[rank];
        let shape = Shape::from_dims(&dims, self.whole.shape.layout()).unwrap();
        Problem::new(shape, self.whole.dtype)
    }

    /// What one rank has of values of the whole batch.
    pub fn part<'a, T>(&self, rank: usize, values: &'a [T]) -> &'a [T] {
        let all: usize = self.samples.iter().sum();
        let sample = values.len() / all.max(1);
        let first: usize = self.samples[..rank].iter().sum();
        &values[first * sample..(first + self.samples[rank]) * sample]
    }
}

impl Rank {
    pub fn rank(&self) -> usize {
        self.group.rank()
    }

    pub fn size(&self) -> usize {
        self.group.size()
    }

    /// Uneven samples: one more on each rank, and none on the last of several.
    pub fn uneven(&self, more: usize) -> Vec<usize> {
        let last = self.size() - 1;
        (0..self.size())
            .map(|rank| {
                if rank > 0 && rank == last {
                    0
                } else {
                    more + rank
                }
            })
            .collect()
    }

    /// This rank's part, forward and backward: y, dx, dweight and dbias.
    pub fn step(&self, layer: &mut SyncBatchNorm, shards: &Shards) -> [Vec<f32>; 4] {
        let (y, saved) = self.forward(layer, shards);
        let [dx, dweight, dbias] = self.backward(layer, shards, saved);
        [y, dx, dweight, dbias]
    }

    pub fn forward(&self, layer: &mut SyncBatchNorm, shards: &Shards) -> (Vec<f32>, Saved) {
        let rank = self.rank();
        let x = shards.part(rank, &shards.x);
        let x = self.gpu.tensor(shards.problem(rank), x).unwrap();
        let (y, saved) = if layer.config().epilogue.name() == "add-relu" {
            layer.train((&x, &x)).unwrap()
        } else {
            layer.train(&x).unwrap()
        };
        (y.read().unwrap(), saved)
    }

    pub fn backward(&self, layer: &SyncBatchNorm, shards: &Shards, saved: Saved) -> [Vec<f32>; 3] {
        let rank = self.rank();
        let dy = shards.part(rank, &shards.dy);
        let dy = self.gpu.tensor(shards.problem(rank), dy).unwrap();
        parts(&layer.backward(saved, &dy).unwrap())
    }

    /// The values of all ranks, in their order.
    pub fn all(&self, values: &[f32]) -> Vec<Vec<f32>> {
        let deadline = std::time::Instant::now() + self.group.options().timeout;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let all = self.group.engine().all_gather(&bytes, deadline).unwrap();
        let values = |bytes: &Vec<u8>| {
            let chunks = bytes.chunks_exact(4);
            chunks
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect()
        };
        all.iter().map(values).collect()
    }

    /// Have all ranks the same bits?
    pub fn same_everywhere(&self, what: &str, values: &[f32]) {
        let all = self.all(values);
        for (rank, other) in all.iter().enumerate() {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(other), bits(values), "{what} of rank {rank}");
        }
    }
}

/// dx, dweight and dbias; empty if there are none.
pub fn parts(gradients: &Gradients) -> [Vec<f32>; 3] {
    [
        gradients.dx.read().unwrap(),
        gradients.weight().unwrap().unwrap_or_default(),
        gradients.bias().unwrap().unwrap_or_default(),
    ]
}

/// The running statistics and their counter, as words.
pub fn running(layer: &BatchNorm) -> Vec<f32> {
    let state = layer.state().unwrap();
    let mut words = state.running_mean.unwrap();
    words.extend(state.running_var.unwrap());
    words.push(state.num_batches_tracked.unwrap() as f32);
    words
}

pub fn problem(dims: &[usize], layout: Layout, dtype: Dtype) -> Problem {
    Problem::new(Shape::from_dims(dims, layout).unwrap(), dtype)
}
