//! Times candidate programs on the same buffers, and picks the fastest whose results match those of the first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::dtype::{Dtype, Problem};
use crate::error::Error;
use crate::gpu::compiled::Compiled;
use crate::gpu::program::{Field, Program, Uniform};
use crate::gpu::{Gpu, Step, wait};
use crate::norm::field::SCRATCH;
use crate::reference::noise::noise;

/// Counted runs of each program, after one that is not counted.
const RUNS: usize = 7;

/// A run repeats its step for about this long, so that the cost of submitting it is small.
const RUN: Duration = Duration::from_millis(2);

/// A program must take less than this share of the first one's time. Closer is noise.
const GAIN: f64 = 0.97;

/// How far a result may be from the first program's, as a share of the field's largest value. Strategies differ in the last
/// bits of a storage type; values that no program has written differ by about one.
const TOLERANCE: f32 = 0.02;

/// Programs, and the memory that they use one after the other.
pub struct Trial<'a> {
    gpu: &'a Gpu,
    problem: Problem,
    memory: Vec<(Field, wgpu::Buffer)>,
    /// Noise in the storage type of activations, and in f32.
    noise: [wgpu::Buffer; 2],
    /// The fields that the programs write for their callers.
    results: Vec<Field>,
    steps: Vec<Step>,
}

impl<'a> Trial<'a> {
    pub fn new<U: Uniform>(
        gpu: &'a Gpu,
        problem: Problem,
        programs: &[Program<U>],
    ) -> Result<Self, Error> {
        let mut bytes = BTreeMap::<Field, u64>::new();
        for need in programs.iter().flat_map(|program| &program.needs) {
            let most = bytes.entry(need.field).or_default();
            *most = need.bytes.max(*most);
        }
        let memory = bytes
            .into_iter()
            .map(|(field, bytes)| Ok((field, gpu.new_buffer("trial", bytes)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let slices: Vec<_> = memory
            .iter()
            .map(|(field, buffer)| (*field, Some(buffer.slice(..))))
            .collect();
        let plans = programs
            .iter()
            .map(|program| Compiled::new(gpu.kernels(), program))
            .collect::<Result<Vec<_>, _>>()?;
        let written = |field| plans.iter().any(|plan| plan.writes(field));
        let results = memory.iter().map(|(field, _)| *field);
        let results = results.filter(|&field| field != SCRATCH && written(field));
        Ok(Self {
            gpu,
            problem,
            noise: [
                uploaded_noise(gpu, problem.dtype, memory.len())?,
                uploaded_noise(gpu, Dtype::F32, memory.len())?,
            ],
            results: results.collect(),
            steps: plans
                .iter()
                .map(|plan| Ok(plan.bind("trial", &slices)?))
                .collect::<Result<_, Error>>()?,
            memory,
        })
    }

    /// The fastest program whose results match the first one's; the first if the difference is noise. Each program runs
    /// once in every round, so that other load on the machine slows all of them.
    pub fn fastest(&self) -> Result<usize, Error> {
        let right = self.matching()?;
        let mut repeats = vec![1; right.len()];
        let mut best = vec![f64::INFINITY; right.len()];
        for run in 0..=RUNS {
            for (place, &index) in right.iter().enumerate() {
                let time = self.time(&self.steps[index], repeats[place])?;
                if run == 0 {
                    let wanted = RUN.as_secs_f64() / time.max(1e-6);
                    repeats[place] = wanted.clamp(1.0, 64.0) as u32;
                } else {
                    best[place] = best[place].min(time / f64::from(repeats[place]));
                }
            }
        }
        let fastest = (1..right.len()).fold(0, |fastest, place| {
            if best[place] < GAIN * best[fastest] {
                place
            } else {
                fastest
            }
        });
        Ok(right[fastest])
    }

    /// The programs whose results match the first one's, by index. A driver that drops work is fast.
    pub fn matching(&self) -> Result<Vec<usize>, Error> {
        let expected = self.results_of(0)?;
        let mut right = vec![0];
        for index in 1..self.steps.len() {
            if agree(&self.results_of(index)?, &expected) {
                right.push(index);
            }
        }
        Ok(right)
    }

    /// The results of a program on memory filled with noise.
    fn results_of(&self, index: usize) -> Result<Vec<Vec<f32>>, Error> {
        self.gpu.submit(|encoder| {
            for (number, (field, buffer)) in (0..).zip(&self.memory) {
                let noise = &self.noise[usize::from(!field.is_activation())];
                for begin in (0..buffer.size()).step_by(NOISE as usize) {
                    let bytes = NOISE.min(buffer.size() - begin);
                    // Each field begins at another place of the noise.
                    encoder.copy_buffer_to_buffer(noise, SHIFT * number, buffer, begin, bytes);
                }
            }
            self.steps[index].encode(encoder);
        })?;
        let results = self.memory.iter();
        results
            .filter(|(field, _)| self.results.contains(field))
            .map(|(field, buffer)| {
                let words = (buffer.size() / 4) as usize;
                let (dtype, count) = if field.is_activation() {
                    // The content of the padding is unspecified.
                    let elements = self.problem.shape.elements();
                    (self.problem.dtype, elements.unwrap_or(0))
                } else {
                    (Dtype::F32, words)
                };
                Ok(dtype.of_words(&self.gpu.read_buffer(buffer, 0, words)?, count))
            })
            .collect()
    }

    /// Seconds.
    fn time(&self, step: &Step, repeats: u32) -> Result<f64, Error> {
        let start = Instant::now();
        self.gpu
            .submit(|encoder| (0..repeats).for_each(|_| step.encode(encoder)))?;
        wait(self.gpu.device())?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Bytes of noise, repeated for longer fields.
const NOISE: u64 = 1 << 20;

/// Bytes between the places of the noise where two fields begin.
const SHIFT: u64 = 1024;

/// Numbers from 0.5 to 1.5, enough for this many fields.
fn uploaded_noise(gpu: &Gpu, dtype: Dtype, fields: usize) -> Result<wgpu::Buffer, Error> {
    let bytes = NOISE + SHIFT * fields as u64;
    let values: Vec<f32> = noise(1, (bytes / dtype.bytes()) as usize)
        .map(|value| (1.0 + 0.5 * value) as f32)
        .collect();
    let words = dtype.to_words(&values);
    gpu.filled_buffer("noise", bytemuck::cast_slice(&words))
}

fn agree(actual: &[Vec<f32>], expected: &[Vec<f32>]) -> bool {
    actual.iter().zip(expected).all(|(actual, expected)| {
        let largest = expected
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        let near = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE * largest;
        actual.iter().zip(expected).all(near)
    })
}
