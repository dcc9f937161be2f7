//! One case of a norm, and its right answer.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::dtype::{Dtype, Problem};
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::{Field, Program};
use crate::norm::field::{
    ADDED, AFFINE, DADDED, DRESIDUAL, DX, DY, GRADS, MOMENTS, OUTPUT, RESIDUAL, SAVED, X, Y,
};
use crate::norm::options::{Destination, ParameterGradients};
use crate::norm::proof::Case;
use crate::norm::proof::inputs::{Fill, Inputs, Storage, f32_bound, round, stored};
use crate::norm::sample::{Line, Params, Pass, SampleNorm};
use crate::norm::twin::MoveRunning;
use crate::norm::twin::memory::Memory;
use crate::norm::uniform::EpsSettings;
use crate::reference::compare::Bound;
use crate::shape::Shape;
use crate::word::WordError;

/// What a norm brings to its proof: its oracle.
pub trait Oracle: SampleNorm {
    /// The twin of the norm's own file in slot `running`.
    const MOVE_RUNNING: MoveRunning<EpsSettings> = |_, _, _, _, _| {};

    /// The moments that a forward pass leaves for running statistics, as a buffer holds them; `None` if it leaves none.
    fn moments_of(&self, _: Problem, _: &[f64]) -> Option<Vec<f64>> {
        None
    }

    /// Whether normalized values are rounded to this storage type before the weight multiplies them.
    fn rounds_to(&self, _: Dtype) -> bool {
        false
    }

    /// The output without an epilogue, and the statistics.
    fn forward_of(
        &self,
        problem: Problem,
        x: &[f64],
        weight: Option<&[f64]>,
        bias: Option<&[f64]>,
    ) -> Forward;

    /// The gradients, given that of the output without an epilogue.
    fn gradients_of(
        &self,
        problem: Problem,
        x: &[f64],
        dy: &[f64],
        weight: Option<&[f64]>,
    ) -> Gradients;
}

/// A forward pass by an oracle.
#[derive(Clone, Debug)]
pub struct Forward {
    pub y: Vec<f64>,
    pub mean: Vec<f64>,
    pub inv_std: Vec<f64>,
}

/// A backward pass by an oracle.
#[derive(Clone, Debug)]
pub struct Gradients {
    pub dx: Vec<f64>,
    pub dweight: Vec<f64>,
    pub dbias: Vec<f64>,
}

/// A part of a batch, by its shape, its values and its parameters.
struct Part {
    shape: Shape,
    values: Range<usize>,
    parameters: Range<usize>,
}

/// A problem line.
#[derive(Clone, Copy, Debug)]
pub struct SampleCase<C> {
    pub line: Line<C>,
}

impl<C: Oracle> fmt::Display for SampleCase<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line.fmt(f)
    }
}

impl<C: Oracle> FromStr for SampleCase<C> {
    type Err = WordError;

    fn from_str(line: &str) -> Result<Self, WordError> {
        Ok(Self {
            line: line.parse()?,
        })
    }
}

impl<C: Oracle> SampleCase<C> {
    fn inputs(&self) -> Inputs {
        let members = self.line.config.members();
        let count = self.parameters();
        Inputs {
            problem: self.line.common.problem,
            epilogue: members.epilogue,
            weight: members.weight.then_some(count),
            bias: members.bias.then_some(count),
            fill: Fill::Noise,
        }
    }

    /// The number of weights of the whole batch.
    fn parameters(&self) -> usize {
        self.parts().len() * self.line.config.sample_parameters()
    }

    /// What the oracle takes at once: each sample if it has parameters of its own, and else all. No sample knows of another.
    fn parts(&self) -> Vec<Part> {
        let shape = self.line.common.problem.shape;
        let samples = match self.line.config.members().per_sample {
            true => shape.batch(),
            false => 1,
        };
        let mut dims = shape.dims();
        dims[0] /= samples;
        let shape = Shape::from_dims(&dims, shape.layout()).expect("a shape");
        let values = shape.elements().expect("a small shape");
        let parameters = self.line.config.sample_parameters();
        let part = |sample| Part {
            shape,
            values: sample * values..(sample + 1) * values,
            parameters: sample * parameters..(sample + 1) * parameters,
        };
        (0..samples).map(part).collect()
    }

    fn problem(&self, part: &Part) -> Problem {
        Problem::new(part.shape, self.line.common.problem.dtype)
    }

    /// What the normalized values are multiplied by.
    fn factors(&self) -> Option<Vec<f64>> {
        let offset = f64::from(u8::from(self.line.config.members().unit_offset));
        let weight = self.inputs().weight()?;
        Some(weight.into_iter().map(|w| w + offset).collect())
    }

    /// What is normalized: in a forward pass that adds first, a sum, and else the input.
    fn normalized(&self) -> Vec<f64> {
        let inputs = self.inputs();
        let mut x = inputs.x();
        if self.line.prenorm && self.line.pass == Pass::Forward {
            x.iter_mut()
                .zip(inputs.residual())
                .for_each(|(x, residual)| *x = inputs.stored(*x + residual));
        }
        x
    }

    fn forward(&self) -> Forward {
        let (factors, bias) = (self.factors(), self.inputs().bias());
        let x = self.normalized();
        let of = |part: Part| {
            let [factors, bias] =
                [&factors, &bias].map(|row| row.as_ref().map(|row| &row[part.parameters.clone()]));
            let config = &self.line.config;
            config.forward_of(self.problem(&part), &x[part.values], factors, bias)
        };
        let parts: Vec<Forward> = self.parts().into_iter().map(of).collect();
        let all = |row: fn(&Forward) -> &Vec<f64>| parts.iter().flat_map(row).copied().collect();
        Forward {
            y: all(|part| &part.y),
            mean: all(|part| &part.mean),
            inv_std: all(|part| &part.inv_std),
        }
    }

    /// The gradients, given that of the output without an epilogue.
    fn gradients(&self, dy: &[f64]) -> Gradients {
        let (factors, x) = (self.factors(), self.inputs().x());
        let of = |part: Part| {
            let problem = self.problem(&part);
            let factors = factors.as_ref().map(|row| &row[part.parameters]);
            let (x, dy) = (&x[part.values.clone()], &dy[part.values]);
            self.line.config.gradients_of(problem, x, dy, factors)
        };
        let parts: Vec<Gradients> = self.parts().into_iter().map(of).collect();
        let all = |row: fn(&Gradients) -> &Vec<f64>| parts.iter().flat_map(row).copied().collect();
        Gradients {
            dx: all(|part| &part.dx),
            dweight: all(|part| &part.dweight),
            dbias: all(|part| &part.dbias),
        }
    }

    /// The values that the epilogue's ReLU is applied to, or without one the output.
    fn before_relu(&self) -> Vec<f64> {
        let inputs = self.inputs();
        let mut y = self.forward().y;
        if inputs.epilogue.adds() {
            y.iter_mut()
                .zip(inputs.residual())
                .for_each(|(y, residual)| *y += residual);
        }
        y
    }

    /// The normalized values that are too near the middle between two of the storage type for f32 to tell which way they
    /// are rounded.
    fn undecided(&self) -> Vec<usize> {
        let (config, problem) = (&self.line.config, self.line.common.problem);
        if !config.rounds_to(problem.dtype) {
            return Vec::new();
        }
        let exact = Problem::new(problem.shape, Dtype::F32);
        let x_hat = config.forward_of(exact, &self.normalized(), None, None).y;
        let near = 16.0 * f64::from(f32::EPSILON);
        let rounded = |x_hat: f64| stored(problem.dtype, x_hat);
        let undecided = |x_hat: f64| rounded(x_hat * (1.0 - near)) != rounded(x_hat * (1.0 + near));
        (0..x_hat.len()).filter(|&i| undecided(x_hat[i])).collect()
    }

    /// The gradient of the output. Those of undecided values are zero.
    fn dy(&self) -> Vec<f64> {
        let mut dy = self.inputs().dy(&self.before_relu());
        self.undecided().into_iter().for_each(|i| dy[i] = 0.0);
        dy
    }

    fn incoming(&self) -> Vec<f64> {
        let mut incoming = self.inputs().incoming(&self.before_relu());
        self.undecided().into_iter().for_each(|i| incoming[i] = 0.0);
        incoming
    }

    fn largest_inv_std(&self) -> f64 {
        self.forward().inv_std.into_iter().fold(1.0, f64::max)
    }

    /// The values of the longest sum: those with one statistic, or those with one parameter.
    fn longest_sum(&self) -> f64 {
        let elements = self.inputs().elements();
        let sums = self.forward().mean.len().min(self.parameters());
        (elements / sums.max(1)) as f64
    }
}

impl<C: Oracle> Case for SampleCase<C> {
    type Settings = EpsSettings;

    const MOVE_RUNNING: MoveRunning<EpsSettings> = C::MOVE_RUNNING;

    fn storage(&self) -> Storage {
        Storage {
            dtype: self.line.common.problem.dtype,
            counters: 0,
        }
    }

    fn program(&self, caps: &Caps) -> Option<Program<Params>> {
        match self.line.program(caps) {
            Ok(program) => Some(program),
            Err(
                PlanError::Strategy { .. }
                | PlanError::Unsupported { .. }
                // Statistics larger than the small binding.
                | PlanError::Limit { .. },
            ) => None,
            Err(error) => panic!("{self}: {error}"),
        }
    }

    fn memory(&self, program: &Program<Params>) -> Memory {
        let inputs = self.inputs();
        let accumulates = matches!(
            self.line.pass,
            Pass::Backward {
                parameters: ParameterGradients::Accumulate,
                ..
            }
        );
        let mut memory = Memory::default();
        for need in &program.needs {
            let values = match need.field {
                X => inputs.x(),
                DY => self.dy(),
                RESIDUAL => inputs.residual(),
                DADDED => inputs.dadded(),
                OUTPUT => {
                    let output = inputs.output(self.before_relu()).into_iter();
                    output.map(|y| inputs.stored(y)).collect()
                }
                AFFINE => inputs.affine(),
                GRADS if accumulates => inputs.accumulated(),
                SAVED if self.line.pass != Pass::Forward => {
                    let forward = self.forward();
                    let means = forward.mean.iter();
                    let low = means.clone().map(|&mean| mean - round(mean)).collect();
                    let mean = means.map(|&mean| round(mean)).collect();
                    [mean, forward.inv_std, low].concat()
                }
                field if field.is_activation() => vec![f64::NAN; inputs.elements()],
                _ => vec![f64::NAN; need.bytes as usize / 4],
            };
            memory.insert(need.field, values);
        }
        memory
    }

    fn expected(&self) -> Vec<(Field, Vec<f64>)> {
        let inputs = self.inputs();
        let Pass::Backward { dx, parameters } = self.line.pass else {
            let forward = self.forward();
            let low = vec![0.0; forward.mean.len()];
            let saved = [forward.mean, forward.inv_std, low].concat();
            let mut expected = vec![(SAVED, saved), (Y, inputs.output(self.before_relu()))];
            expected.extend(self.line.prenorm.then(|| (ADDED, self.normalized())));
            let config = &self.line.config;
            let moments = config.moments_of(inputs.problem, &self.normalized());
            expected.extend(moments.map(|moments| (MOMENTS, moments)));
            return expected;
        };
        let g = self.incoming();
        let mut gradients = self.gradients(&g);
        if self.line.prenorm {
            let dx = gradients.dx.iter_mut();
            dx.zip(inputs.dadded())
                .for_each(|(dx, dadded)| *dx += dadded);
        }
        let rows = [
            inputs.weight.map(|_| gradients.dweight),
            inputs.bias.map(|_| gradients.dbias),
        ];
        let mut grads: Vec<f64> = rows.into_iter().flatten().flatten().collect();
        if parameters == ParameterGradients::Accumulate {
            grads
                .iter_mut()
                .zip(inputs.accumulated())
                .for_each(|(g, before)| *g += before);
        }
        let place = |dx| match dx {
            Destination::OutOfPlace => DX,
            Destination::InPlace => DY,
        };
        let mut expected = Vec::new();
        expected.extend(dx.map(|dx| (place(dx), gradients.dx)));
        if parameters != ParameterGradients::Skip && !grads.is_empty() {
            expected.push((GRADS, grads));
        }
        if inputs.epilogue.adds() {
            expected.push((DRESIDUAL, g));
        }
        expected
    }

    fn untold(&self, field: Field) -> Vec<usize> {
        match field {
            Y => self.undecided(),
            _ => Vec::new(),
        }
    }

    fn bound(&self, field: Field) -> Bound {
        let ulp = f64::from(f32::EPSILON);
        let dy_is_dx = matches!(
            self.line.pass,
            Pass::Backward {
                dx: Some(Destination::InPlace),
                ..
            }
        );
        let exact = match field {
            DX => Bound::new(32.0 * ulp, 32.0 * ulp * self.largest_inv_std()),
            DY if dy_is_dx => Bound::new(32.0 * ulp, 32.0 * ulp * self.largest_inv_std()),
            X | DY | AFFINE | RESIDUAL | DRESIDUAL | OUTPUT | ADDED | DADDED => {
                return Bound::EXACT;
            }
            Y | SAVED => Bound::new(16.0 * ulp, 16.0 * ulp),
            // GRADS, and partial results.
            _ => Bound::new(16.0 * ulp, 16.0 * ulp * self.longest_sum()),
        };
        f32_bound(field, self.storage().dtype, exact)
    }

    fn amplification(&self) -> f64 {
        self.largest_inv_std().max(self.longest_sum())
    }
}
