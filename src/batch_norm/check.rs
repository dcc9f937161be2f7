//! The chain of trust: the oracle holds the twins, each twin holds its kernel, and the oracle holds whole
//! programs on the device.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::cases::{CAPS, Case, Mode, SETS, all_cases, cases};
use super::options::{Destination, Epilogue, ParameterGradients};
use super::params::Params;
use super::twin::{self, Memory};
use crate::dtype::Dtype;
use crate::gpu::program::{Field, Program};
use crate::gpu::{Kernels, step, test_gpu};
use crate::reference::compare::{Bound, within};
use crate::reference::noise::noise;
use crate::reference::{Moments, batch_norm as oracle};

/// The nearest f32, as an f64.
fn round(value: f64) -> f64 {
    f64::from(value as f32)
}

/// About the mean of a channel.
fn center(channel: usize) -> f64 {
    match channel % 7 {
        3 => 1000.0,
        c => c as f64 - 2.0,
    }
}

impl Case {
    /// The nearest value of the storage type.
    fn stored(&self, value: f64) -> f64 {
        f64::from(
            self.dtype
                .of_words(&self.dtype.to_words(&[value as f32]), 1)[0],
        )
    }

    /// Memory as the device's buffers would hold it.
    fn rounded(&self, mut memory: Memory) -> Memory {
        for field in memory.fields() {
            let values = memory.values(field).to_vec();
            let words = self.words_of(field, &values);
            memory.insert(field, self.values_of(field, &words, values.len()));
        }
        memory
    }

    fn words_of(&self, field: Field, values: &[f64]) -> Vec<u32> {
        let singles: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        if field.is_activation() {
            return self.dtype.to_words(&singles);
        }
        let integers = integers_from(field, values.len());
        let word = |(i, &v): (usize, &f32)| if i < integers { v.to_bits() } else { v as u32 };
        singles.iter().enumerate().map(word).collect()
    }

    fn values_of(&self, field: Field, words: &[u32], count: usize) -> Vec<f64> {
        if field.is_activation() {
            return self
                .dtype
                .of_words(words, count)
                .into_iter()
                .map(f64::from)
                .collect();
        }
        let integers = integers_from(field, count);
        let value = |(i, &w): (usize, &u32)| {
            if i < integers {
                f32::from_bits(w).into()
            } else {
                w.into()
            }
        };
        words.iter().take(count).enumerate().map(value).collect()
    }

    /// Channels differ in mean and scale; one is far from zero, one nearly constant.
    fn x(&self) -> Vec<f64> {
        noise(1, self.elements())
            .enumerate()
            .map(|(i, v)| {
                let channel = self.shape.channel_of(i);
                let scale = if channel % 7 == 5 {
                    1e-3
                } else {
                    1.0 + (channel % 3) as f64
                };
                self.stored(center(channel) + scale * v)
            })
            .collect()
    }

    /// Where ReLU's input is too near zero to tell its side in f32, no gradient comes in.
    fn dy(&self) -> Vec<f64> {
        let noise = noise(2, self.elements()).map(|v| self.stored(v + 0.25));
        let clear = |near: &f64| near.abs() > 1e-3 || self.config.epilogue != Epilogue::Relu;
        noise
            .zip(self.before_relu())
            .map(|(dy, v)| if clear(&v) { dy } else { 0.0 })
            .collect()
    }

    fn residual(&self) -> Vec<f64> {
        noise(10, self.elements())
            .map(|v| self.stored(2.0 * v))
            .collect()
    }

    /// The gradients that the caller has gathered.
    fn gathered(&self) -> Vec<f64> {
        noise(11, self.config.affine_rows() * self.config.num_features)
            .map(round)
            .collect()
    }

    fn is_frozen(&self) -> bool {
        let tracks = self.config.track_running_stats;
        matches!(self.mode, Mode::Backward { frozen: true, .. })
            || (matches!(self.mode, Mode::Eval(_)) && tracks)
    }

    /// What the epilogue's ReLU is applied to, or without one the output.
    fn before_relu(&self) -> Vec<f64> {
        let (shape, x, eps) = (self.shape, self.x(), f64::from(self.config.eps));
        let (weight, bias) = (self.weight(), self.bias());
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        let mut y = if self.is_frozen() {
            oracle::eval(shape, &x, &self.running(), weight, bias, eps)
        } else {
            oracle::train(shape, &x, weight, bias, eps).y
        };
        if self.config.epilogue.adds() {
            y.iter_mut()
                .zip(self.residual())
                .for_each(|(y, residual)| *y += residual);
        }
        y
    }

    /// The forward pass's output.
    fn output(&self) -> Vec<f64> {
        let mut y = self.before_relu();
        if self.config.epilogue != Epilogue::Identity {
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        y
    }

    fn weight(&self) -> Option<Vec<f64>> {
        let channels = self.config.num_features;
        self.config
            .weight
            .then(|| noise(3, channels).map(|v| 1.5 + v).map(round).collect())
    }

    fn bias(&self) -> Option<Vec<f64>> {
        self.config
            .bias
            .then(|| noise(4, self.config.num_features).map(round).collect())
    }

    fn running(&self) -> oracle::Running {
        let channels = self.config.num_features;
        oracle::Running {
            // Where a layer that has trained for a while would have them.
            mean: noise(5, channels)
                .enumerate()
                .map(|(c, v)| round(v + center(c)))
                .collect(),
            var: noise(6, channels).map(|v| 1.5 + v).map(round).collect(),
            num_batches_tracked: 4,
        }
    }

    /// The moments of one part of each channel's values, or of all of them.
    fn moments(&self, part: Option<usize>) -> Vec<Moments> {
        let mut values = vec![Vec::new(); self.config.num_features];
        for (i, v) in self.x().into_iter().enumerate() {
            values[self.shape.channel_of(i)].push(v);
        }
        let chosen = |i: usize| part.is_none_or(|part| i % SETS == part);
        let part = |values: Vec<f64>| values.into_iter().enumerate().filter(|(i, _)| chosen(*i));
        values
            .into_iter()
            .map(|values| Moments::of(part(values).map(|(_, v)| v)))
            .collect()
    }

    /// Moments as a buffer holds them.
    fn moment_rows(&self, part: Option<usize>) -> Vec<f64> {
        let moments = self.moments(part);
        let row = |value: fn(&Moments) -> f64| moments.iter().map(value).collect::<Vec<_>>();
        [
            row(|m| round(m.mean)),
            row(|m| m.mean - round(m.mean)),
            row(|m| m.m2),
            row(|m| m.count),
        ]
        .concat()
    }

    /// The gradient that comes in through the epilogue.
    fn incoming(&self) -> Vec<f64> {
        let before = match self.config.epilogue {
            Epilogue::Identity => vec![1.0; self.elements()],
            Epilogue::Relu => self.before_relu(),
            // As stored: what rounds to zero has not passed.
            Epilogue::AddRelu => self.output().into_iter().map(|y| self.stored(y)).collect(),
        };
        self.dy()
            .into_iter()
            .zip(before)
            .map(|(g, v)| if v > 0.0 { g } else { 0.0 })
            .collect()
    }

    fn gradients(&self) -> oracle::Gradients {
        let (shape, x, eps) = (self.shape, self.x(), f64::from(self.config.eps));
        let weight = self.weight();
        let weight = weight.as_deref();
        if self.is_frozen() {
            oracle::backward_frozen(shape, &x, &self.incoming(), &self.running(), weight, eps)
        } else {
            oracle::backward(shape, &x, &self.incoming(), weight, eps)
        }
    }

    /// The rows that backward's sums make, of the whole batch.
    fn sum_rows(&self) -> Vec<f64> {
        let gradients = self.gradients();
        let count = self.shape.values_per_channel().expect("a small shape") as f64;
        let counts = vec![count; gradients.dbias.len()];
        [gradients.dbias, gradients.dweight, counts].concat()
    }

    /// The program's buffers before it runs. What it is to write is NaN, so that a hole is seen.
    pub fn memory(&self, program: &Program<Params>) -> Memory {
        let running = self.running();
        let forward = oracle::train(self.shape, &self.x(), None, None, self.config.eps.into());
        let mut memory = Memory::default();
        for need in &program.needs {
            let values = match need.field {
                Field::X => self.x(),
                Field::Dy => self.dy(),
                Field::Affine => {
                    let rows = [self.weight(), self.bias()];
                    rows.into_iter().flatten().flatten().collect()
                }
                Field::Running => {
                    let batches = vec![running.num_batches_tracked as f64; running.mean.len()];
                    [running.mean.clone(), running.var.clone(), batches].concat()
                }
                Field::Sets => (0..SETS)
                    .flat_map(|part| self.moment_rows(Some(part)))
                    .collect(),
                Field::Moments if self.mode == Mode::Finalize => self.moment_rows(None),
                Field::Sums if matches!(self.mode, Mode::BackwardApply(_)) => self.sum_rows(),
                Field::Dresidual if matches!(self.mode, Mode::BackwardApply(_)) => self.incoming(),
                Field::Residual => self.residual(),
                Field::Output => self.output().into_iter().map(|y| self.stored(y)).collect(),
                Field::Grads => match self.mode {
                    Mode::Backward {
                        parameters: ParameterGradients::Accumulate,
                        ..
                    } => self.gathered(),
                    _ => vec![f64::NAN; need.bytes as usize / 4],
                },
                Field::Statistics if self.is_frozen() => {
                    [running.mean.clone(), running.var.clone()].concat()
                }
                Field::Saved if !matches!(self.mode, Mode::Apply(_)) => {
                    vec![f64::NAN; need.bytes as usize / 4]
                }
                Field::Statistics | Field::Saved => {
                    let residual = forward
                        .mean
                        .iter()
                        .map(|&mean| mean - round(mean))
                        .collect();
                    let mean = forward.mean.iter().copied().map(round).collect();
                    [mean, forward.inv_std.clone(), residual].concat()
                }
                Field::Y | Field::Dx | Field::Dresidual => vec![f64::NAN; self.elements()],
                Field::Scratch | Field::Moments | Field::Sums => {
                    vec![f64::NAN; need.bytes as usize / 4]
                }
            };
            memory.insert(need.field, values);
        }
        memory
    }

    /// What the oracle says the program leaves.
    fn expected(&self) -> Vec<(Field, Vec<f64>)> {
        let (shape, x, eps) = (self.shape, self.x(), f64::from(self.config.eps));
        let mut running = self.running();
        match self.mode {
            Mode::Eval(y) if self.is_frozen() => {
                let y = match y {
                    Destination::Apart => Field::Y,
                    Destination::InPlace => Field::X,
                };
                vec![(y, self.output())]
            }
            Mode::Train | Mode::Eval(_) | Mode::Finalize => {
                let forward = oracle::train(shape, &x, None, None, eps);
                let none = vec![0.0; forward.mean.len()];
                let saved = [forward.mean.clone(), forward.inv_std.clone(), none].concat();
                let mut expected = vec![(Field::Saved, saved)];
                if self.mode != Mode::Finalize {
                    expected.push((Field::Y, self.output()));
                }
                if !matches!(self.mode, Mode::Eval(_)) && self.config.track_running_stats {
                    let values = shape.values_per_channel().expect("a small shape") as u64;
                    running.update(&forward, values, self.config.momentum.map(f64::from));
                    let batches = vec![running.num_batches_tracked as f64; running.mean.len()];
                    expected.push((
                        Field::Running,
                        [running.mean, running.var, batches].concat(),
                    ));
                }
                expected
            }
            Mode::Backward { dx, parameters, .. } => {
                let gradients = self.gradients();
                let rows = [
                    self.config.weight.then_some(gradients.dweight),
                    self.config.bias.then_some(gradients.dbias),
                ];
                let mut grads: Vec<f64> = rows.into_iter().flatten().flatten().collect();
                if parameters == ParameterGradients::Accumulate {
                    grads
                        .iter_mut()
                        .zip(self.gathered())
                        .for_each(|(g, before)| *g += before);
                }
                let mut expected = Vec::new();
                match dx {
                    Some(Destination::Apart) => expected.push((Field::Dx, gradients.dx)),
                    Some(Destination::InPlace) => expected.push((Field::Dy, gradients.dx)),
                    None => {}
                }
                if parameters != ParameterGradients::Skip && !grads.is_empty() {
                    expected.push((Field::Grads, grads));
                }
                if self.config.epilogue.adds() {
                    expected.push((Field::Dresidual, self.incoming()));
                }
                expected
            }
            Mode::Stats | Mode::Combine => vec![(Field::Moments, self.moment_rows(None))],
            Mode::Apply(Destination::Apart) => vec![(Field::Y, self.output())],
            Mode::Apply(Destination::InPlace) => vec![(Field::X, self.output())],
            Mode::BackwardReduce => {
                let mut expected = vec![(Field::Sums, self.sum_rows())];
                if self.config.epilogue.adds() {
                    expected.push((Field::Dresidual, self.incoming()));
                }
                expected
            }
            Mode::BackwardApply(Destination::Apart) => vec![(Field::Dx, self.gradients().dx)],
            Mode::BackwardApply(Destination::InPlace) => vec![(Field::Dy, self.gradients().dx)],
        }
    }

    /// How far f32 may be from f64. Rounding errors are of the size of the terms, which are of order one
    /// here (a gradient grows with inv_std, which eps keeps below 320, and sums with their length).
    fn bound(&self, field: Field) -> Bound {
        let ulp = f64::from(f32::EPSILON);
        let values = self.shape.values_per_channel().expect("a small shape") as f64;
        let exact = match field {
            Field::X
                if [
                    Mode::Eval(Destination::InPlace),
                    Mode::Apply(Destination::InPlace),
                ]
                .contains(&self.mode) =>
            {
                Bound::new(16.0 * ulp, 16.0 * ulp)
            }
            Field::Dy
                if matches!(
                    self.mode,
                    Mode::Backward {
                        dx: Some(Destination::InPlace),
                        ..
                    } | Mode::BackwardApply(Destination::InPlace)
                ) =>
            {
                Bound::new(32.0 * ulp, 32.0 * ulp * self.largest_inv_std())
            }
            Field::Y | Field::Saved | Field::Running => Bound::new(16.0 * ulp, 16.0 * ulp),
            Field::Dx => Bound::new(32.0 * ulp, 32.0 * ulp * self.largest_inv_std()),
            Field::Grads | Field::Scratch | Field::Moments | Field::Sums => {
                Bound::new(16.0 * ulp, 16.0 * ulp * values)
            }
            Field::X
            | Field::Dy
            | Field::Affine
            | Field::Statistics
            | Field::Residual
            | Field::Dresidual
            | Field::Output
            | Field::Sets => return Bound::EXACT,
        };
        // Storing rounds once more: by half a unit of the last place, or of the smallest subnormal.
        let (relative, absolute) = match self.dtype {
            _ if !field.is_activation() => (0.0, 0.0),
            Dtype::F32 => (0.0, 0.0),
            Dtype::F16 => (2f64.powi(-11), 2f64.powi(-25)),
            Dtype::Bf16 => (2f64.powi(-8), 0.0),
        };
        Bound::new(
            exact.relative + relative,
            exact.absolute * (1.0 + relative) + absolute,
        )
    }

    fn largest_inv_std(&self) -> f64 {
        let by_batch =
            oracle::train(self.shape, &self.x(), None, None, self.config.eps.into()).inv_std;
        by_batch.into_iter().fold(1.0, f64::max)
    }

    fn compare(
        &self,
        field: Field,
        actual: &Memory,
        expected: &[f64],
        bound: Bound,
    ) -> Result<(), String> {
        let actual = canonical(field, actual.values(field));
        within(field.name(), &actual, &canonical(field, expected), bound)
            .map(drop)
            .map_err(|mismatch| format!("{self:?}: {mismatch}"))
    }

    /// Compares everything that the program leaves with the oracle.
    pub fn compare_with_oracle(
        &self,
        memory: &Memory,
        bound: impl Fn(Field) -> Bound,
    ) -> Result<(), String> {
        self.expected()
            .iter()
            .try_for_each(|(field, values)| self.compare(*field, memory, values, bound(*field)))
    }

    /// Runs the whole program on the device, twice, and compares with the oracle.
    pub fn check_on_device(
        &self,
        kernels: &Kernels,
        program: &Program<Params>,
    ) -> Result<(), String> {
        let before = self.memory(program);
        let once =
            on_device(self, kernels, program, &before).map_err(|e| format!("{self:?}: {e}"))?;
        let twice =
            on_device(self, kernels, program, &before).map_err(|e| format!("{self:?}: {e}"))?;
        for need in &program.needs {
            let bits = |memory: &Memory| -> Vec<u64> {
                memory
                    .values(need.field)
                    .iter()
                    .map(|v| v.to_bits())
                    .collect()
            };
            if bits(&once) != bits(&twice) {
                return Err(format!(
                    "{self:?}: {} differs from run to run",
                    need.field.name()
                ));
            }
        }
        self.compare_with_oracle(&once, |field| self.bound(field))
    }
}

/// The mean and what rounding left out of it, in one number.
fn canonical(field: Field, values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    // The mean is the first row, what is left of it the second of moments, the third of statistics.
    let (rows, residual) = match field {
        Field::Saved => (3, 2),
        Field::Moments => (4, 1),
        _ => return values,
    };
    let channels = values.len() / rows;
    for channel in 0..channels {
        values[channel] += std::mem::take(&mut values[residual * channels + channel]);
    }
    values
}

/// Words that stand before and after every buffer, and stay.
const GUARD: u32 = 0xdead_beef;
const GUARD_BYTES: u64 = 256;

/// What the program leaves on the device, which must take it; an error if it writes outside of its buffers.
fn on_device(
    case: &Case,
    kernels: &Kernels,
    program: &Program<Params>,
    before: &Memory,
) -> Result<Memory, String> {
    let gpu = test_gpu();
    let device = kernels.device();
    let buffers: Vec<_> = program
        .needs
        .iter()
        .filter(|need| need.bytes > 0)
        .map(|need| {
            let mut words = vec![GUARD; GUARD_BYTES as usize / 4];
            words.extend(case.words_of(need.field, before.values(need.field)));
            words.resize(((GUARD_BYTES + need.bytes) / 4) as usize, 0);
            words.resize(words.len() + GUARD_BYTES as usize / 4, GUARD);
            let buffer = wgpu::util::DeviceExt::create_buffer_init(
                device,
                &wgpu::util::BufferInitDescriptor {
                    label: Some(need.field.name()),
                    contents: bytemuck::cast_slice(&words),
                    usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
                },
            );
            (need.field, need.bytes, buffer)
        })
        .collect();
    let slices: Vec<_> = buffers
        .iter()
        .map(|(field, bytes, buffer)| {
            (*field, Some(buffer.slice(GUARD_BYTES..GUARD_BYTES + bytes)))
        })
        .collect();
    let refused = |error: &dyn std::error::Error| -> ! { panic!("{case:?}: {error}") };
    let pipelines = kernels.pipelines(program).unwrap_or_else(|e| refused(&e));
    let step =
        step::bind("check", kernels, &pipelines, program, &slices).unwrap_or_else(|e| refused(&e));
    let mut encoder = device.create_command_encoder(&Default::default());
    step.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);

    let mut after = before.clone();
    for (field, bytes, buffer) in &buffers {
        let words: Vec<u32> = gpu
            .read_buffer(buffer, 0, (buffer.size() / 4) as usize)
            .unwrap_or_else(|e| refused(&e));
        let (head, rest) = words.split_at(GUARD_BYTES as usize / 4);
        let (body, tail) = rest.split_at(*bytes as usize / 4);
        if head.iter().chain(tail).any(|&word| word != GUARD) {
            return Err(format!("{}: written outside the slice", field.name()));
        }
        let count = before.values(*field).len();
        after.insert(*field, case.values_of(*field, body, count));
    }
    Ok(after)
}

/// The index from which a buffer holds integers.
fn integers_from(field: Field, len: usize) -> usize {
    if field == Field::Running {
        len / 3 * 2
    } else {
        len
    }
}

/// Runs every dispatch of the kernel in every case on the device, from the twin's memory before it, and
/// compares with the twin's memory after it.
pub fn kernel(name: &str) {
    let kernels = test_gpu().kernels();
    let runs = |program: &Program<_>| program.dispatches.iter().any(|d| d.kernel.name == name);
    let with_it: Vec<_> = cases()
        .into_iter()
        .filter_map(|case| Some((case, case.program(kernels.caps())?)))
        .filter(|(_, program)| runs(program))
        .collect();
    // Options differ in what they bind, which whole programs show; here they take turns where there are many.
    let turns = (with_it.len() / 100).clamp(1, 3);
    let mut checked = 0;
    for (case, program) in with_it.into_iter().step_by(turns) {
        let mut memory = case.memory(&program);
        for dispatch in &program.dispatches {
            memory = case.rounded(memory);
            let before = memory.clone();
            twin::run(dispatch, &mut memory);
            if dispatch.kernel.name != name {
                continue;
            }
            let alone = Program {
                dispatches: vec![dispatch.clone()],
                ..program.clone()
            };
            let actual = on_device(&case, kernels, &alone, &before).expect("a dispatch");
            for need in &program.needs {
                case.compare(
                    need.field,
                    &actual,
                    memory.values(need.field),
                    case.bound(need.field),
                )
                .unwrap_or_else(|mismatch| panic!("{name}: {mismatch}"));
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{name}: only {checked} dispatches");
}

/// Checks every case on as many threads as there are cores, and counts those that are of use. Each thread has its own
/// test device, so that kernels are compiled side by side.
pub fn side_by_side<T: Sync>(cases: &[T], check: impl Fn(&T) -> bool + Sync) -> usize {
    let next = AtomicUsize::new(0);
    let work = || {
        std::iter::from_fn(|| cases.get(next.fetch_add(1, Ordering::Relaxed)))
            .filter(|case| check(case))
            .count()
    };
    thread::scope(|scope| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .sum()
    })
}

#[test]
fn chained_twins_agree_with_the_oracle() {
    let checked = side_by_side(&all_cases(), |case| {
        let Some(program) = case.program(&CAPS) else {
            return false;
        };
        let mut memory = case.memory(&program);
        twin::run_all(&program, &mut memory);
        let values = case.shape.values_per_channel().expect("a small shape") as f64;
        let scale = case.largest_inv_std().max(values);
        case.compare_with_oracle(&memory, |_| Bound::new(1e-11, 1e-13 * scale))
            .unwrap();
        true
    });
    assert!(checked > 12_000, "only {checked} cases");
}

#[test]
fn programs_on_the_device_agree_with_the_oracle() {
    let checked = side_by_side(&cases(), |case| {
        let kernels = test_gpu().kernels();
        let program = case.program(kernels.caps());
        program.is_some_and(|program| {
            case.check_on_device(kernels, &program).unwrap();
            true
        })
    });
    assert!(checked > 4000, "only {checked} cases");
}
