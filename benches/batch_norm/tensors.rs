//! The tensors of a problem, in several sets that take turns.

use std::collections::HashMap;
use std::error::Error;

use wgpu::{Buffer, BufferUsages};
use wgpu_norm::{BatchNormConfig, Dtype, Gpu, Problem, Shape, reference};

/// Values that verification looks at, about. Of larger tensors it takes some channels.
const VERIFIED: usize = 4 << 20;

/// What a problem reads and writes, by name.
pub struct Tensors {
    gpu: Gpu,
    problem: Problem,
    /// Each with "x", "dy" and "out". The values are the same in all.
    pub sets: Vec<HashMap<&'static str, Buffer>>,
    small: HashMap<&'static str, Buffer>,
    /// The channels that are verified, and their values.
    pub channels: Vec<usize>,
    pub x: Vec<f64>,
    pub dy: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// `count` values in [-1, 1), which f32 represents exactly.
fn noise(seed: u64, count: usize) -> Vec<f32> {
    reference::noise(seed, count).map(|v| v as f32).collect()
}

impl Tensors {
    /// So many sets that they take `rotate` bytes at least.
    pub fn new(gpu: &Gpu, problem: Problem, rotate: u64) -> Result<Self, Box<dyn Error>> {
        let Problem { shape, dtype, .. } = problem;
        let elements = shape.elements().ok_or("the shape overflows")?;
        let all = shape.channels();
        let affine = noise(3, 2 * all);
        let running = BatchNormConfig::new(all).initial_running();
        let count = (all * VERIFIED / elements.max(1)).clamp(1, all);
        let channels: Vec<usize> = (0..count).map(|i| i * all / count).collect();

        let buffer = |bytes: u64| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes.next_multiple_of(16).max(16),
                usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        };
        let upload = |bytes: &[u8]| {
            let buffer = buffer(bytes.len() as u64);
            gpu.queue().write_buffer(&buffer, 0, bytes);
            buffer
        };
        let activation = |values: &[f32]| match dtype {
            Dtype::F32 => upload(bytemuck::cast_slice(values)),
            _ => {
                let halves: Vec<u16> = values.iter().map(|&v| bits(dtype, v)).collect();
                upload(bytemuck::cast_slice(&halves))
            }
        };
        let mut first = HashMap::new();
        let mut verified = Vec::new();
        for (name, seed) in [("x", 1), ("dy", 2)] {
            let values = noise(seed, elements);
            first.insert(name, activation(&values));
            let picked = pick(shape, &channels, &values);
            verified.push(
                picked
                    .into_iter()
                    .map(|v| stored(dtype, v).into())
                    .collect(),
            );
        }
        let bytes = first["x"].size();
        first.insert("out", buffer(bytes));
        let sets = rotate.div_ceil(3 * bytes).clamp(1, 64);
        let mut sets = vec![first; sets as usize];
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let (head, rest) = sets.split_at_mut(1);
        for set in rest {
            for (name, slot) in set.iter_mut() {
                *slot = buffer(bytes);
                encoder.copy_buffer_to_buffer(&head[0][name], 0, slot, 0, bytes);
            }
        }
        gpu.queue().submit([encoder.finish()]);
        let small = HashMap::from([
            ("affine", upload(bytemuck::cast_slice(&affine))),
            ("grads", upload(bytemuck::cast_slice(&affine))),
            // Moved by training; evaluation reads one that stays.
            ("running", upload(bytemuck::cast_slice(&running))),
            ("still", upload(bytemuck::cast_slice(&running))),
            ("saved", buffer(12 * all as u64)),
        ]);
        let (weight, bias) = affine.split_at(all);
        let of_channels = |row: &[f32]| channels.iter().map(|&c| row[c].into()).collect();
        let [x, dy] = verified.try_into().map_err(|_| "two tensors")?;
        Ok(Self {
            gpu: gpu.clone(),
            problem,
            sets,
            small,
            x,
            dy,
            weight: of_channels(weight),
            bias: of_channels(bias),
            channels,
        })
    }

    /// The shape of the verified channels alone, channels first.
    pub fn verified_shape(&self) -> Shape {
        let shape = self.problem.shape;
        let values = shape.values_per_channel().unwrap_or(0) / shape.batch().max(1);
        Shape::ncl(shape.batch(), self.channels.len(), values)
    }

    pub fn buffer(&self, set: usize, name: &str) -> &Buffer {
        self.sets[set]
            .get(name)
            .unwrap_or_else(|| &self.small[name])
    }

    /// What stands in "out" of the first set, in the verified channels.
    pub fn read(&self) -> Result<Vec<f32>, Box<dyn Error>> {
        let out = self.buffer(0, "out").clone();
        let values = self.gpu.tensor_from_buffer(self.problem, out)?.read()?;
        Ok(pick(self.problem.shape, &self.channels, &values))
    }
}

/// The values of some channels, as (N, channels, S).
fn pick(shape: Shape, channels: &[usize], values: &[f32]) -> Vec<f32> {
    let (batch, all) = (shape.batch(), shape.channels());
    let spatial = values.len() / (batch * all).max(1);
    let first = shape.layout() == wgpu_norm::Layout::ChannelsFirst;
    let mut picked = Vec::with_capacity(batch * channels.len() * spatial);
    for n in 0..batch {
        for &c in channels {
            picked.extend((0..spatial).map(|s| {
                values[if first {
                    (n * all + c) * spatial + s
                } else {
                    (n * spatial + s) * all + c
                }]
            }));
        }
    }
    picked
}

fn bits(dtype: Dtype, value: f32) -> u16 {
    match dtype {
        Dtype::Bf16 => half::bf16::from_f32(value).to_bits(),
        _ => half::f16::from_f32(value).to_bits(),
    }
}

/// The value as it is stored.
fn stored(dtype: Dtype, value: f32) -> f32 {
    dtype.unpack(&dtype.pack(&[value]))[0]
}
