//! Programs that should come to the same, on one memory: the fastest of those that do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::params::Params;
use super::plans::Compiled;
use crate::dtype::{Dtype, Problem};
use crate::error::Error;
use crate::gpu::program::{Field, Program};
use crate::gpu::{Gpu, Step, wait};
use crate::reference::noise::noise;

/// Runs of each program that count; one more goes before them.
const RUNS: usize = 7;

/// A run repeats its step for about so long, so that submitting it weighs little.
const RUN: Duration = Duration::from_millis(2);

/// What another program must save over the first. Less is noise.
const GAIN: f64 = 0.97;

/// How far a result may be from the first program's, in units of the field's largest value. Strategies differ in
/// the last bits of a storage type; values that nobody has written differ by about one.
const TOLERANCE: f32 = 0.02;

/// Programs with the memory that they use one after the other.
pub struct Trial<'a> {
    gpu: &'a Gpu,
    problem: Problem,
    memory: Vec<(Field, wgpu::Buffer)>,
    /// Noise, as it is stored in activations and elsewhere.
    noise: [wgpu::Buffer; 2],
    /// What the programs write for their callers.
    results: Vec<Field>,
    steps: Vec<Step>,
}

impl<'a> Trial<'a> {
    pub fn new(
        gpu: &'a Gpu,
        problem: Problem,
        programs: Vec<Program<Params>>,
    ) -> Result<Self, Error> {
        let mut bytes = BTreeMap::<Field, u64>::new();
        for need in programs.iter().flat_map(|program| &program.needs) {
            let most = bytes.entry(need.field).or_default();
            *most = need.bytes.max(*most);
        }
        let memory = bytes
            .into_iter()
            .map(|(field, bytes)| Ok((field, gpu.state_buffer("trial", bytes)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let slices: Vec<_> = memory
            .iter()
            .map(|(field, buffer)| (*field, Some(buffer.slice(..))))
            .collect();
        let written = |field| programs.iter().any(|program| program.writes(field));
        let results = memory.iter().map(|(field, _)| *field);
        let results = results.filter(|&field| field != Field::Scratch && written(field));
        Ok(Self {
            gpu,
            problem,
            noise: [
                uploaded_noise(gpu, problem.dtype, memory.len())?,
                uploaded_noise(gpu, Dtype::F32, memory.len())?,
            ],
            results: results.collect(),
            steps: programs
                .into_iter()
                .map(|program| {
                    let plan = Compiled::new(gpu.kernels(), program)?;
                    Ok(plan.bind("trial", &slices)?)
                })
                .collect::<Result<_, Error>>()?,
            memory,
        })
    }

    /// The fastest program that leaves what the first one leaves; the first where the difference is noise. In every
    /// round each runs once, so that what else the machine does meets all of them.
    pub fn fastest(&self) -> Result<usize, Error> {
        let expected = self.results_of(0)?;
        let mut right = vec![0];
        for index in 1..self.steps.len() {
            // A program that leaves something out would be faster than it should be.
            if agree(&self.results_of(index)?, &expected) {
                right.push(index);
            }
        }
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

    /// What a program leaves in memory that was noise.
    fn results_of(&self, index: usize) -> Result<Vec<Vec<f32>>, Error> {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        for (number, (field, buffer)) in (0..).zip(&self.memory) {
            let noise = &self.noise[usize::from(!field.is_activation())];
            for begin in (0..buffer.size()).step_by(NOISE as usize) {
                let bytes = NOISE.min(buffer.size() - begin);
                // Each field has numbers of its own.
                encoder.copy_buffer_to_buffer(noise, SHIFT * number, buffer, begin, bytes);
            }
        }
        self.steps[index].encode(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
        let results = self.memory.iter();
        results
            .filter(|(field, _)| self.results.contains(field))
            .map(|(field, buffer)| {
                let words = (buffer.size() / 4) as usize;
                let (dtype, count) = if field.is_activation() {
                    // What stands in the padding is nobody's business.
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
        let device = self.gpu.device();
        let mut encoder = device.create_command_encoder(&Default::default());
        (0..repeats).for_each(|_| step.encode(&mut encoder));
        let start = Instant::now();
        self.gpu.queue().submit([encoder.finish()]);
        wait(device)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// Bytes of noise, which is repeated as often as a field is longer.
const NOISE: u64 = 1 << 20;

/// Bytes between the beginnings of two fields' noise.
const SHIFT: u64 = 1024;

/// Numbers from 0.5 to 1.5, for so many fields.
fn uploaded_noise(gpu: &Gpu, dtype: Dtype, fields: usize) -> Result<wgpu::Buffer, Error> {
    let bytes = NOISE + SHIFT * fields as u64;
    let values: Vec<f32> = noise(1, (bytes / dtype.bytes()) as usize)
        .map(|value| (1.0 + 0.5 * value) as f32)
        .collect();
    let buffer = gpu.state_buffer("noise", bytes)?;
    let words = dtype.to_words(&values);
    gpu.queue()
        .write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
    Ok(buffer)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_norm::config::BatchNormConfig;
    use crate::batch_norm::options::BackwardOptions;
    use crate::batch_norm::plan;
    use crate::batch_norm::tuning::{Strategy, Tuning};
    use crate::gpu::test_gpu;
    use crate::shape::Shape;

    /// What is faster because it does less is not the fastest.
    #[test]
    fn programs_that_leave_something_out_are_no_choice() {
        let gpu = test_gpu();
        let caps = gpu.kernels().caps();
        for &dtype in Dtype::ALL {
            let problem = Problem::new(Shape::nhwc(32, 32, 32, 64), dtype);
            let config = BatchNormConfig::new(64);
            let tuning = Tuning {
                strategy: Some(Strategy::Split),
                tile: None,
            };
            let options = BackwardOptions {
                tuning,
                ..BackwardOptions::default()
            };
            let train = plan::train(caps, problem, &config, tuning).unwrap();
            let backward = plan::backward(caps, problem, &config, options).unwrap();
            for whole in [train, backward] {
                for index in 0..whole.dispatches.len() {
                    let mut partial = whole.clone();
                    partial.dispatches.remove(index);
                    let trial = Trial::new(gpu, problem, vec![whole.clone(), partial]).unwrap();
                    let [whole, partial] = [0, 1].map(|index| trial.results_of(index).unwrap());
                    assert!(agree(&whole, &trial.results_of(0).unwrap()));
                    assert!(!agree(&partial, &whole), "{dtype} without dispatch {index}");
                    assert_eq!(trial.fastest().unwrap(), 0);
                }
            }
        }
    }
}
