//! What a line should compute, by the reference.

use anyhow::bail;
use wgpu_norm::batch_norm::{Line, ParameterGradients, Pass};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{Dtype, Shape};

use crate::subject::Subject;
use crate::tensors::Tensors;

/// The device may round a smaller input of the ReLU to the other side of zero.
const NEAR_ZERO: f64 = 1e-4;

/// The inputs of the verified channels, and what is made of them.
struct Expected<'a> {
    line: &'a Line,
    tensors: &'a Tensors,
    shape: Shape,
    weight: Option<&'a [f64]>,
    bias: Option<&'a [f64]>,
    eps: f64,
}

impl Expected<'_> {
    /// Is it normalized by the running statistics, which are those of a new layer?
    fn by_running(&self) -> bool {
        match self.line.pass {
            Pass::Eval(_) => self.line.config.track_running_stats,
            Pass::Backward { frozen, .. } => frozen,
            _ => false,
        }
    }

    fn still(&self) -> oracle::Running {
        oracle::Running::new(self.tensors.channels.len())
    }

    /// The input of the ReLU, if there is one.
    fn sum(&self) -> Vec<f64> {
        let (shape, x) = (self.shape, self.tensors.values("x"));
        let mut y = if self.by_running() {
            oracle::eval(shape, x, &self.still(), self.weight, self.bias, self.eps)
        } else {
            oracle::train(shape, x, self.weight, self.bias, self.eps).y
        };
        if self.line.config.epilogue.adds() {
            let residual = self.tensors.values("residual");
            y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
        }
        y
    }

    fn has_relu(&self) -> bool {
        self.line.config.epilogue != Default::default()
    }

    /// The gradient of what the ReLU was given.
    fn incoming(&self) -> Vec<f64> {
        let dy = self.tensors.values("dy").to_vec();
        if !self.has_relu() {
            return dy;
        }
        let passed = |(dy, sum): (f64, f64)| if sum > 0.0 { dy } else { 0.0 };
        dy.into_iter().zip(self.sum()).map(passed).collect()
    }

    fn gradients(&self) -> oracle::Gradients {
        let (shape, x, dy) = (self.shape, self.tensors.values("x"), self.incoming());
        if self.by_running() {
            oracle::backward_frozen(shape, x, &dy, &self.still(), self.weight, self.eps)
        } else {
            oracle::backward(shape, x, &dy, self.weight, self.eps)
        }
    }
}

/// Compares a copy with what was copied.
pub fn copied(name: &str, tensors: &Tensors) -> anyhow::Result<()> {
    within(
        name,
        &tensors.read("out")?,
        tensors.values("x"),
        Bound::EXACT,
    )?;
    Ok(())
}

/// Compares what a subject has computed in the first set of tensors; what is too fast to be right is not timed.
pub fn verify(subject: &Subject, tensors: &Tensors) -> anyhow::Result<()> {
    let line = &subject.line;
    let config = &line.config;
    let expected = Expected {
        line,
        tensors,
        shape: tensors.verified_shape(),
        weight: config.weight.then_some(&tensors.weight),
        bias: config.bias.then_some(&tensors.bias),
        eps: config.eps.into(),
    };
    let name = subject.to_string();
    let rounding = match line.common.problem.dtype {
        Dtype::F32 => 0.0,
        Dtype::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    };
    let each = Bound::new(2e-6 + rounding, 2e-5);
    let count = expected.shape.values_per_channel().unwrap_or(0) as f64;
    // Sums of so many values of either sign; a few may come from the other side of the ReLU.
    let flipped = if expected.has_relu() { 4.0 } else { 0.0 };
    let sums = Bound::new(1e-4, 1e-6 * count + flipped);
    let tensor = |name_of: &str, values: Vec<f64>, bound| -> anyhow::Result<()> {
        within(&name, &tensors.read(name_of)?, &values, bound)?;
        Ok(())
    };
    // Gradients of values that are not near the ReLU's corner.
    let gradient = |name_of: &str, values: Vec<f64>| -> anyhow::Result<()> {
        let actual = tensors.read(name_of)?;
        let sure: Vec<bool> = if expected.has_relu() {
            expected
                .sum()
                .iter()
                .map(|sum| sum.abs() > NEAR_ZERO)
                .collect()
        } else {
            vec![true; values.len()]
        };
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for ((actual, value), _) in actual
            .into_iter()
            .zip(values)
            .zip(sure)
            .filter(|(_, sure)| *sure)
        {
            left.push(actual);
            right.push(value);
        }
        let bound = Bound::new(each.relative, each.absolute + flipped / count.max(1.0));
        within(&name, &left, &right, bound)?;
        Ok(())
    };
    let row = |buffer, row, values: &[f64], bound| -> anyhow::Result<()> {
        within(&name, &tensors.read_row(buffer, row)?, values, bound)?;
        Ok(())
    };
    match line.pass {
        Pass::Train | Pass::Eval(_) | Pass::Apply(_) => {
            let relu = expected.has_relu() || subject.then_relu;
            let least = if relu { 0.0 } else { f64::NEG_INFINITY };
            let y = expected.sum().into_iter().map(|sum| sum.max(least));
            tensor("out", y.collect(), each)
        }
        Pass::Backward { dx: Some(_), .. } | Pass::BackwardApply(_) => {
            gradient("out", expected.gradients().dx)
        }
        Pass::Backward { parameters, .. } if parameters != ParameterGradients::Skip => {
            let (gradients, rows) = (expected.gradients(), config.affine_rows());
            for (place, values) in [
                (rows.weight, gradients.dweight),
                (rows.bias, gradients.dbias),
            ] {
                if let Some(place) = place {
                    row("grads", place, &values, sums)?;
                }
            }
            Ok(())
        }
        Pass::Backward { .. } => gradient("dresidual", expected.incoming()),
        Pass::Stats => {
            let forward = oracle::train(
                expected.shape,
                tensors.values("x"),
                None,
                None,
                expected.eps,
            );
            let m2: Vec<f64> = forward.var.iter().map(|var| var * count).collect();
            let rows = config.moment_rows();
            row("moments", rows.mean, &forward.mean, each)?;
            row("moments", rows.m2, &m2, Bound::new(1e-5, 0.0))
        }
        Pass::BackwardReduce => {
            let (gradients, rows) = (expected.gradients(), config.sum_rows());
            row("sums", rows.dweight, &gradients.dweight, sums)?;
            row("sums", rows.dbias, &gradients.dbias, sums)
        }
        pass => bail!("{pass} has no reference here"),
    }
}
