//! The tensors of a problem, in several sets that take turns.

use std::collections::HashMap;
use std::ops::Range;

use anyhow::Context;
use wgpu::{Buffer, BufferUsages};
use wgpu_norm::batch_norm::SavedRows;
use wgpu_norm::{Gpu, Layout, Problem, Shape, reference};

/// Values that verification looks at, about. Of larger tensors it takes some channels.
const VERIFIED: usize = 4 << 20;

/// The tensors that every pass has.
const USUAL: [&str; 3] = ["x", "dy", "out"];

/// Those that a pass has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Further {
    None,
    /// Of an epilogue with a residual.
    Epilogue,
    /// Of a pre-norm block. Backward's x is the sum "added".
    Prenorm,
}

impl Further {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Epilogue => &["residual", "output", "dresidual"],
            Self::Prenorm => &["residual", "added", "dadded"],
        }
    }
}

/// The sizes of what is no activation, and what of the activations goes together.
pub struct Small {
    /// Values of weight or bias: of one sample, if samples have their own.
    pub parameters: usize,
    /// Samples that have parameters of their own; 1 if all share them.
    pub samples: usize,
    /// Means and variances.
    pub statistics: usize,
    /// Neighbouring channels that share statistics: only together can they be verified.
    pub together: usize,
    /// Running statistics to begin with, as words; empty if the norm has none.
    pub running: Vec<u32>,
    /// Bytes.
    pub moments: u64,
    /// Bytes.
    pub sums: u64,
}

/// What a problem reads and writes, by name.
pub struct Tensors {
    gpu: Gpu,
    problem: Problem,
    /// Sets of tensors. The values are the same in all.
    pub sets: Vec<HashMap<&'static str, Buffer>>,
    small: HashMap<&'static str, Buffer>,
    /// The channels that are verified.
    pub channels: Vec<usize>,
    /// The parameters that are verified, of all that a sample has.
    parameters: Vec<usize>,
    all_parameters: usize,
    /// Values that share statistics.
    pub per_statistic: f64,
    values: HashMap<&'static str, Vec<f64>>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// `count` values in [-1, 1), which f32 represents exactly.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    reference::noise(seed, count).map(|v| v as f32).collect()
}

impl Tensors {
    /// So many sets that they take `rotate` bytes at least.
    pub fn new(
        gpu: &Gpu,
        problem: Problem,
        small: &Small,
        further: Further,
        rotate: u64,
    ) -> anyhow::Result<Self> {
        let Problem { shape, dtype, .. } = problem;
        let elements = shape.elements().context("the shape overflows")?;
        let all = shape.channels();
        // Whole sets of channels that share statistics.
        let together = small.together.clamp(1, all);
        let units = all / together;
        let count = (units * VERIFIED / elements.max(1)).clamp(1, units);
        let channels: Vec<usize> = (0..count)
            .flat_map(|i| (0..together).map(move |j| i * units / count * together + j))
            .collect();
        let parameters = if small.parameters == all {
            channels.clone()
        } else {
            (0..small.parameters).collect()
        };
        let upload = |bytes: &[u8]| {
            let buffer = buffer(gpu, bytes.len() as u64);
            gpu.queue().write_buffer(&buffer, 0, bytes);
            buffer
        };

        let names = [&USUAL, further.names()].concat();
        let bytes = dtype.buffer_bytes(elements);
        let (mut first, mut values) = (HashMap::new(), HashMap::<_, Vec<f64>>::new());
        for name in &names {
            let seed = match *name {
                "x" => 1,
                "dy" => 2,
                "residual" => 4,
                "dadded" => 5,
                _ => {
                    first.insert(*name, buffer(gpu, bytes));
                    continue;
                }
            };
            let packed = dtype.pack(&noise(seed, elements));
            first.insert(*name, upload(&packed));
            // As they are stored.
            let picked = pick(shape, &channels, &dtype.unpack(&packed)[..elements]);
            values.insert(*name, picked.into_iter().map(f64::from).collect());
        }
        if further == Further::Prenorm {
            let pairs = values["x"].iter().zip(&values["residual"]);
            let sums: Vec<f32> = pairs.map(|(x, r)| (x + r) as f32).collect();
            let stored = dtype.unpack(&dtype.pack(&sums));
            let sums = stored[..sums.len()].iter().copied().map(f64::from);
            values.insert("added", sums.collect());
        }
        let bytes = first["x"].size();
        let sets = rotate.div_ceil(names.len() as u64 * bytes).clamp(1, 64);
        let mut sets = vec![first; sets as usize];
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let (head, rest) = sets.split_at_mut(1);
        for set in rest {
            for (name, slot) in set.iter_mut() {
                *slot = buffer(gpu, bytes);
                encoder.copy_buffer_to_buffer(&head[0][name], 0, slot, 0, bytes);
            }
        }
        gpu.queue().submit([encoder.finish()]);

        let count = small.samples * small.parameters;
        let affine = noise(3, 2 * count);
        let (weight, bias) = affine.split_at(count);
        let running = bytemuck::cast_slice(&small.running);
        let saved = SavedRows::new(small.statistics).bytes();
        let buffers = HashMap::from([
            ("affine", upload(bytemuck::cast_slice(&affine))),
            ("weight", upload(bytemuck::cast_slice(weight))),
            ("bias", upload(bytemuck::cast_slice(bias))),
            ("grads", upload(bytemuck::cast_slice(&affine))),
            // Moved by training; evaluation reads one that stays.
            ("running", upload(running)),
            ("still", upload(running)),
            ("saved", buffer(gpu, saved)),
            ("moments", buffer(gpu, small.moments)),
            ("sums", buffer(gpu, small.sums)),
        ]);
        let verified = |row: &[f32]| -> Vec<f64> {
            let row = of_each_sample(row, small.parameters, &parameters).into_iter();
            row.map(f64::from).collect()
        };
        Ok(Self {
            gpu: gpu.clone(),
            problem,
            sets,
            small: buffers,
            values,
            weight: verified(weight),
            bias: verified(bias),
            per_statistic: elements as f64 / small.statistics.max(1) as f64,
            channels,
            parameters,
            all_parameters: small.parameters,
        })
    }

    /// The shape of the verified channels alone, with the spatial extents as one.
    pub fn verified_shape(&self) -> Shape {
        let shape = self.problem.shape;
        let (batch, channels) = (shape.batch(), self.channels.len());
        let values = shape.values_per_channel().unwrap_or(0) / batch.max(1);
        match shape.layout() {
            Layout::ChannelsFirst => Shape::ncl(batch, channels, values),
            _ => Shape::nlc(batch, values, channels),
        }
    }

    /// The values of an input, or of the sum of two, in the verified channels.
    pub fn values(&self, name: &str) -> &[f64] {
        &self.values[name]
    }

    pub fn buffer(&self, set: usize, name: &str) -> &Buffer {
        self.sets[set]
            .get(name)
            .unwrap_or_else(|| &self.small[name])
    }

    /// Memory of one step.
    pub fn scratch(&self, bytes: u64) -> Buffer {
        buffer(&self.gpu, bytes)
    }

    /// A tensor of the first set, in the verified channels.
    pub fn read(&self, name: &str) -> anyhow::Result<Vec<f32>> {
        let tensor = self.buffer(0, name).clone();
        let values = self.gpu.tensor_from_buffer(self.problem, tensor)?.read()?;
        Ok(pick(self.problem.shape, &self.channels, &values))
    }

    /// A row of a packed buffer, of the whole batch or of one sample after the other: the values of the verified parameters.
    pub fn read_row(&self, name: &str, row: Range<u64>) -> anyhow::Result<Vec<f32>> {
        let values = self.gpu.read_f32(self.buffer(0, name).slice(row))?;
        let (all, picked) = (self.all_parameters, &self.parameters);
        Ok(of_each_sample(&values, all, picked))
    }
}

fn buffer(gpu: &Gpu, bytes: u64) -> Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: bytes.next_multiple_of(16).max(16),
        usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    })
}

/// Those that are picked of `all` values that each sample has in a row.
fn of_each_sample(row: &[f32], all: usize, picked: &[usize]) -> Vec<f32> {
    let samples = row.chunks_exact(all);
    samples
        .flat_map(|sample| picked.iter().map(|&index| sample[index]))
        .collect()
}

/// The values of some channels, in the tensor's order.
fn pick(shape: Shape, channels: &[usize], values: &[f32]) -> Vec<f32> {
    let (batch, all) = (shape.batch(), shape.channels());
    if channels.len() == all {
        return values.to_vec();
    }
    let spatial = values.len() / (batch * all).max(1);
    let mut picked = Vec::with_capacity(batch * channels.len() * spatial);
    match shape.layout() {
        Layout::ChannelsFirst => {
            for n in 0..batch {
                for &c in channels {
                    let begin = (n * all + c) * spatial;
                    picked.extend_from_slice(&values[begin..begin + spatial]);
                }
            }
        }
        _ => {
            for row in values.chunks_exact(all) {
                picked.extend(channels.iter().map(|&c| row[c]));
            }
        }
    }
    picked
}
