//! One case of BatchNorm, and its right answer.

use std::fmt;
use std::str::FromStr;

use crate::batch_norm::line::{Line, Pass};
use crate::batch_norm::policy::{RunningVariance, SingleValue};
use crate::batch_norm::program::Params;
use crate::batch_norm::settings::MomentumSettings;
use crate::dtype::Dtype;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::{Field, Program};
use crate::norm::field::{
    AFFINE, DRESIDUAL, DX, DY, GRADS, MOMENTS, OUTPUT, PARTS, RESIDUAL, RUNNING, SAVED, SUMS, X, Y,
};
use crate::norm::options::{Destination, ParameterGradients};
use crate::norm::proof::Case;
use crate::norm::proof::inputs::{
    Fill, Inputs, Storage, center, f32_bound, moment_rows, parts, round,
};
use crate::norm::twin::memory::Memory;
use crate::norm::twin::{MoveRunning, Run};
use crate::reference::compare::Bound;
use crate::reference::{Moments, batch_norm as oracle, instance_norm, noise};
use crate::word::WordError;

/// A problem line, and the values to try it with.
#[derive(Clone, Copy, Debug)]
pub struct BatchCase {
    pub line: Line,
    pub fill: Fill,
}

impl fmt::Display for BatchCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.fmt(f)
    }
}

/// The twin of `running_moved.wgsl`.
fn move_running(
    run: &mut Run<'_, MomentumSettings>,
    channel: usize,
    mean: f64,
    m2: f64,
    count: f64,
) {
    let channels = run.statistics();
    if count <= 1.0 && !run.is("SINGLE_VALUE_MOVES") {
        return;
    }
    let finite = mean.is_finite() && m2.is_finite();
    let counter = if finite || !run.is("SKIP_NON_FINITE") {
        2
    } else {
        3
    };
    let batches = run.memory.get(RUNNING, counter * channels + channel) + 1.0;
    let batches = batches.min(u32::MAX.into());
    run.memory
        .set(RUNNING, counter * channels + channel, batches);
    if counter == 3 {
        return;
    }
    let divisor = if run.is("BIASED") { count } else { count - 1.0 };
    let var = m2 / divisor.max(1.0);
    let momentum = if run.is("CUMULATIVE") {
        1.0 / batches
    } else {
        run.params().settings.momentum.into()
    };
    for (row, new) in [mean, var].into_iter().enumerate() {
        let at = row * channels + channel;
        let old = run.memory.get(RUNNING, at);
        run.memory
            .set(RUNNING, at, (1.0 - momentum) * old + momentum * new);
    }
}

impl FromStr for BatchCase {
    type Err = WordError;

    fn from_str(line: &str) -> Result<Self, WordError> {
        Ok(Self {
            line: line.parse()?,
            fill: Fill::Noise,
        })
    }
}

impl BatchCase {
    /// The columns of a lane that are forced.
    pub fn columns(&self) -> u32 {
        self.line.common.tuning.tile.map_or(1, |tile| tile.columns)
    }

    /// Whether the tensor is larger than a binding may be.
    pub fn is_windowed(&self) -> bool {
        let bytes = self.dtype().bytes() * self.inputs().elements() as u64;
        self.line
            .common
            .max_binding
            .is_some_and(|most| bytes > most)
    }

    fn dtype(&self) -> Dtype {
        self.line.common.problem.dtype
    }

    fn inputs(&self) -> Inputs {
        let config = &self.line.config;
        Inputs {
            problem: self.line.common.problem,
            epilogue: config.epilogue,
            weight: config.weight.then_some(config.num_features),
            bias: config.bias.then_some(config.num_features),
            fill: self.fill,
        }
    }

    fn eps(&self) -> f64 {
        self.line.config.eps.into()
    }

    fn is_frozen(&self) -> bool {
        let tracks = self.line.config.track_running_stats;
        match self.line.pass {
            Pass::Backward { frozen, .. } => frozen,
            Pass::Eval(_) => tracks,
            _ => false,
        }
    }

    fn running(&self) -> oracle::Running {
        let channels = self.line.config.num_features;
        oracle::Running {
            // As after some training.
            mean: noise(5, channels)
                .enumerate()
                .map(|(c, v)| round(v + center(c)))
                .collect(),
            var: noise(6, channels).map(|v| 1.5 + v).map(round).collect(),
            num_batches_tracked: 4,
        }
    }

    /// Running statistics as a buffer holds them.
    fn running_buffer(running: oracle::Running) -> Vec<f64> {
        let channels = running.mean.len();
        let batches = vec![running.num_batches_tracked as f64; channels];
        [running.mean, running.var, batches, vec![1.0; channels]].concat()
    }

    /// Whether the running statistics stand in for those of a single value.
    fn running_stands_in(&self) -> bool {
        self.line.config.single_value == SingleValue::Running && self.values_per_channel() == 1.0
    }

    /// The running statistics after a batch of so many values a channel, or an instance, with these biased variances.
    fn moved(&self, mean: &[f64], var: &[f64], values: f64) -> oracle::Running {
        let config = &self.line.config;
        let mut running = self.running();
        if values == 0.0 || (values == 1.0 && config.single_value != SingleValue::Update) {
            return running;
        }
        let divisor = match config.running_variance {
            RunningVariance::Unbiased => (values - 1.0).max(1.0),
            RunningVariance::Biased => values,
        };
        let var: Vec<_> = var.iter().map(|var| var * values / divisor).collect();
        let momentum = config.momentum.share().map(f64::from);
        running.average(mean, &var, momentum);
        running
    }

    /// The values that the epilogue's ReLU is applied to, or without one the output.
    fn before_relu(&self) -> Vec<f64> {
        let inputs = self.inputs();
        let (shape, x) = (inputs.problem.shape, inputs.x());
        let (weight, bias) = (inputs.weight(), inputs.bias());
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        let mut y = if self.is_frozen() {
            oracle::eval(shape, &x, &self.running(), weight, bias, self.eps())
        } else {
            oracle::train(shape, &x, weight, bias, self.eps()).y
        };
        if inputs.epilogue.adds() {
            y.iter_mut()
                .zip(inputs.residual())
                .for_each(|(y, residual)| *y += residual);
        }
        y
    }

    fn output(&self) -> Vec<f64> {
        self.inputs().output(self.before_relu())
    }

    /// Whether a value is in a part of the batch; each value is in one.
    fn in_part(&self, index: usize, part: usize, parts: u32) -> bool {
        let (shape, channel) = (
            self.inputs().problem.shape,
            self.inputs().problem.shape.channel_of(index),
        );
        // The position among the channel's values, so that every part has some of each.
        let before = match shape.plane() {
            Some(plane) if plane > 0 => shape.sample_of(index) * plane + index % plane + channel,
            _ => index,
        };
        before % parts as usize == part
    }

    /// Moments of one of several parts, as a buffer holds them.
    fn moment_rows(&self, part: usize, parts: u32) -> Vec<f64> {
        let mut values = vec![Vec::new(); self.line.config.num_features];
        let inputs = self.inputs();
        for (i, v) in inputs.x().into_iter().enumerate() {
            if self.in_part(i, part, parts) {
                values[inputs.problem.shape.channel_of(i)].push(v);
            }
        }
        let moments: Vec<_> = values.into_iter().map(Moments::of).collect();
        moment_rows(&moments)
    }

    /// The gradients of the incoming gradient `g`.
    fn gradients_of(&self, g: &[f64]) -> oracle::Gradients {
        let inputs = self.inputs();
        let (shape, x, eps) = (inputs.problem.shape, inputs.x(), self.eps());
        let weight = inputs.weight();
        let weight = weight.as_deref();
        if self.running_stands_in() {
            // The statistics that the case finds in `saved`, as constants.
            let oracle::Forward { mean, var, .. } = oracle::train(shape, &x, None, None, eps);
            let num_batches_tracked = 0;
            let saved = oracle::Running {
                mean,
                var,
                num_batches_tracked,
            };
            oracle::backward_frozen(shape, &x, g, &saved, weight, eps)
        } else if self.is_frozen() {
            oracle::backward_frozen(shape, &x, g, &self.running(), weight, eps)
        } else {
            oracle::backward(shape, &x, g, weight, eps)
        }
    }

    fn incoming(&self) -> Vec<f64> {
        self.inputs().incoming(&self.before_relu())
    }

    fn gradients(&self) -> oracle::Gradients {
        self.gradients_of(&self.incoming())
    }

    /// The sums of one of several parts.
    fn sum_rows(&self, part: usize, parts: u32) -> Vec<f64> {
        let shape = self.inputs().problem.shape;
        let mut counts = vec![0.0; self.line.config.num_features];
        let mut g = self.incoming();
        for (i, g) in g.iter_mut().enumerate() {
            if self.in_part(i, part, parts) {
                counts[shape.channel_of(i)] += 1.0;
            } else {
                *g = 0.0;
            }
        }
        let gradients = self.gradients_of(&g);
        [gradients.dweight, gradients.dbias, counts].concat()
    }

    fn values_per_channel(&self) -> f64 {
        let shape = self.inputs().problem.shape;
        shape.values_per_channel().expect("a small shape") as f64
    }

    fn largest_inv_std(&self) -> f64 {
        let inputs = self.inputs();
        let forward = oracle::train(inputs.problem.shape, &inputs.x(), None, None, self.eps());
        forward.inv_std.into_iter().fold(1.0, f64::max)
    }

    /// The parts of the program's input.
    fn parts(&self) -> u32 {
        match self.line.pass {
            Pass::Combine(parts) | Pass::Finalize(parts) | Pass::BackwardCombine(parts) => parts,
            _ => 1,
        }
    }
}

impl Case for BatchCase {
    type Settings = MomentumSettings;

    const MOVE_RUNNING: MoveRunning<MomentumSettings> = move_running;

    fn storage(&self) -> Storage {
        Storage {
            dtype: self.dtype(),
            counters: self.line.config.num_features,
        }
    }

    fn program(&self, caps: &Caps) -> Option<Program<Params>> {
        match self.line.program(caps) {
            Ok(program) => Some(program),
            Err(
                PlanError::Strategy { .. }
                | PlanError::NoRunningStatistics
                | PlanError::Unsupported { .. }
                | PlanError::TooFewValues { .. }
                // Parameters larger than the small binding.
                | PlanError::Limit { .. },
            ) => None,
            Err(error) => panic!("{self}: {error}"),
        }
    }

    fn memory(&self, program: &Program<Params>) -> Memory {
        let inputs = self.inputs();
        let running = self.running();
        let parts_of = |rows: &dyn Fn(usize) -> Vec<f64>, bytes| {
            let rows: Vec<_> = (0..self.parts() as usize).map(rows).collect();
            parts(&rows, bytes).1
        };
        let mut memory = Memory::default();
        for need in &program.needs {
            let nan = || match need.field.is_activation() {
                true => vec![f64::NAN; inputs.elements()],
                false => vec![f64::NAN; need.bytes as usize / 4],
            };
            let pass = self.line.pass;
            let reads_sums = matches!(pass, Pass::BackwardApply(_));
            let writes_saved = matches!(pass, Pass::Train | Pass::Eval(_) | Pass::Finalize(_));
            let accumulates = matches!(
                pass,
                Pass::Backward {
                    parameters: ParameterGradients::Accumulate,
                    ..
                }
            );
            let values = match need.field {
                X => inputs.x(),
                DY => inputs.dy(&self.before_relu()),
                RESIDUAL => inputs.residual(),
                OUTPUT => {
                    let output = self.output().into_iter();
                    output.map(|y| inputs.stored(y)).collect()
                }
                AFFINE => inputs.affine(),
                GRADS if accumulates => inputs.accumulated(),
                RUNNING => {
                    let mut rows = Self::running_buffer(running.clone());
                    // Backward takes no more than it needs.
                    rows.truncate(need.bytes as usize / 4);
                    rows
                }
                SAVED if !writes_saved => {
                    let forward =
                        oracle::train(inputs.problem.shape, &inputs.x(), None, None, self.eps());
                    let means = forward.mean.iter();
                    let low = means.clone().map(|&mean| mean - round(mean)).collect();
                    let mean = means.map(|&mean| round(mean)).collect();
                    [mean, forward.inv_std, low].concat()
                }
                PARTS if matches!(pass, Pass::BackwardCombine(_)) => {
                    parts_of(&|part| self.sum_rows(part, self.parts()), need.bytes)
                }
                MOMENTS if pass == Pass::Instances => {
                    moment_rows(&instance_norm::moments(inputs.problem.shape, &inputs.x()))
                }
                PARTS => parts_of(&|part| self.moment_rows(part, self.parts()), need.bytes),
                SUMS if reads_sums => self.sum_rows(0, 1),
                DRESIDUAL if reads_sums => self.incoming(),
                _ => nan(),
            };
            memory.insert(need.field, values);
        }
        memory
    }

    fn expected(&self) -> Vec<(Field, Vec<f64>)> {
        let inputs = self.inputs();
        let config = &self.line.config;
        let place = |place, out, over| match place {
            Destination::OutOfPlace => out,
            Destination::InPlace => over,
        };
        match self.line.pass {
            Pass::Eval(y) if self.is_frozen() => vec![(place(y, Y, X), self.output())],
            Pass::Train | Pass::Eval(_) | Pass::Finalize(_) => {
                let shape = inputs.problem.shape;
                let forward = oracle::train(shape, &inputs.x(), None, None, self.eps());
                let low = vec![0.0; forward.mean.len()];
                let mut saved = [forward.mean.clone(), forward.inv_std.clone(), low.clone()];
                if self.running_stands_in() {
                    let running = self.running();
                    let inv_std = |var: &f64| (var + self.eps()).sqrt().recip();
                    let scale = running.var.iter().map(inv_std).collect();
                    saved = [running.mean, scale, low];
                }
                let saved = saved.concat();
                let mut expected = vec![(SAVED, saved)];
                if !matches!(self.line.pass, Pass::Finalize(_)) {
                    expected.push((Y, self.output()));
                }
                if !matches!(self.line.pass, Pass::Eval(_)) && config.track_running_stats {
                    let moved = self.moved(&forward.mean, &forward.var, self.values_per_channel());
                    expected.push((RUNNING, Self::running_buffer(moved)));
                }
                expected
            }
            Pass::Backward { dx, parameters, .. } => {
                let gradients = self.gradients();
                let rows = [
                    config.weight.then_some(gradients.dweight),
                    config.bias.then_some(gradients.dbias),
                ];
                let mut grads: Vec<f64> = rows.into_iter().flatten().flatten().collect();
                if parameters == ParameterGradients::Accumulate {
                    grads
                        .iter_mut()
                        .zip(inputs.accumulated())
                        .for_each(|(g, before)| *g += before);
                }
                let mut expected = Vec::new();
                expected.extend(dx.map(|dx| (place(dx, DX, DY), gradients.dx)));
                if parameters != ParameterGradients::Skip && !grads.is_empty() {
                    expected.push((GRADS, grads));
                }
                if config.epilogue.adds() {
                    expected.push((DRESIDUAL, self.incoming()));
                }
                expected
            }
            Pass::Instances => {
                let moments = instance_norm::averages(inputs.problem.shape, &inputs.x());
                let row =
                    |value: fn(&Moments) -> f64| moments.iter().map(value).collect::<Vec<_>>();
                let values = moments.first().map_or(0.0, |m| m.count);
                let moved = self.moved(&row(|m| m.mean), &row(|m| m.var()), values);
                vec![(RUNNING, Self::running_buffer(moved))]
            }
            Pass::Stats | Pass::Combine(_) => vec![(MOMENTS, self.moment_rows(0, 1))],
            Pass::Apply(y) => vec![(place(y, Y, X), self.output())],
            Pass::BackwardReduce => {
                let mut expected = vec![(SUMS, self.sum_rows(0, 1))];
                if config.epilogue.adds() {
                    expected.push((DRESIDUAL, self.incoming()));
                }
                expected
            }
            Pass::BackwardCombine(_) => vec![(SUMS, self.sum_rows(0, 1))],
            Pass::BackwardApply(dx) => vec![(place(dx, DX, DY), self.gradients().dx)],
        }
    }

    /// Rounding errors are of the size of the terms, which are of order one here (a gradient grows with inv_std, which eps
    /// keeps below 320, and sums with their length).
    fn bound(&self, field: Field) -> Bound {
        let ulp = f64::from(f32::EPSILON);
        let values = self.values_per_channel();
        let x_is_y = matches!(
            self.line.pass,
            Pass::Eval(Destination::InPlace) | Pass::Apply(Destination::InPlace)
        );
        let dy_is_dx = matches!(
            self.line.pass,
            Pass::Backward {
                dx: Some(Destination::InPlace),
                ..
            } | Pass::BackwardApply(Destination::InPlace)
        );
        let exact = match field {
            MOMENTS | SUMS | GRADS if self.fill == Fill::Constant => return Bound::EXACT,
            Y if self.fill == Fill::Constant => return Bound::EXACT,
            MOMENTS if self.fill == Fill::Integers => return Bound::EXACT,
            X if x_is_y => Bound::new(16.0 * ulp, 16.0 * ulp),
            DX => Bound::new(32.0 * ulp, 32.0 * ulp * self.largest_inv_std()),
            DY if dy_is_dx => Bound::new(32.0 * ulp, 32.0 * ulp * self.largest_inv_std()),
            X | DY | AFFINE | RESIDUAL | DRESIDUAL | OUTPUT | PARTS => return Bound::EXACT,
            Y | SAVED | RUNNING => Bound::new(16.0 * ulp, 16.0 * ulp),
            // GRADS, MOMENTS, SUMS, and partial results.
            _ => Bound::new(16.0 * ulp, 16.0 * ulp * values),
        };
        f32_bound(field, self.dtype(), exact)
    }

    fn amplification(&self) -> f64 {
        self.largest_inv_std().max(self.values_per_channel())
    }
}
