//! What a line should compute, by the reference.

use wgpu_norm::Dtype;
use wgpu_norm::batch_norm::Epilogue;
use wgpu_norm::reference::compare::{Bound, within};

use crate::norm::Written;
use crate::oracle::{Gradients, Oracle};
use crate::subject::Subject;
use crate::tensors::Tensors;

/// The device may round a smaller input of the ReLU to the other side of zero.
const NEAR_ZERO: f64 = 1e-4;

/// What is made of the inputs, of those values that are verified.
struct Expected<'a> {
    tensors: &'a Tensors,
    /// What is normalized.
    x: &'a [f64],
    /// The gradient that it has by another way.
    dadded: Option<&'a [f64]>,
    epilogue: Epilogue,
    oracle: Box<dyn Oracle + 'a>,
}

impl Expected<'_> {
    /// The input of what follows the normalization.
    fn sum(&self) -> Vec<f64> {
        let mut y = self.oracle.forward(self.x);
        if self.epilogue.adds() {
            let residual = self.tensors.values("residual");
            y.iter_mut().zip(residual).for_each(|(y, r)| *y += r);
        }
        y
    }

    fn has_relu(&self) -> bool {
        matches!(self.epilogue, Epilogue::Relu | Epilogue::AddRelu)
    }

    fn y(&self) -> Vec<f64> {
        let mut y = self.sum();
        match self.epilogue {
            Epilogue::Silu => y.iter_mut().for_each(|y| *y *= sigmoid(*y)),
            _ if self.has_relu() => y.iter_mut().for_each(|y| *y = y.max(0.0)),
            _ => {}
        }
        y
    }

    /// The gradient of what the epilogue was given.
    fn incoming(&self) -> Vec<f64> {
        let mut dy = self.tensors.values("dy").to_vec();
        let slope = |sum: f64| match self.epilogue {
            Epilogue::Silu => sigmoid(sum) * (1.0 + sum * (1.0 - sigmoid(sum))),
            _ if sum > 0.0 => 1.0,
            _ => 0.0,
        };
        if self.epilogue != Epilogue::Identity {
            let with_sum = dy.iter_mut().zip(self.sum());
            with_sum.for_each(|(dy, sum)| *dy *= slope(sum));
        }
        dy
    }

    fn gradients(&self) -> Gradients {
        let mut made = self.oracle.backward(self.x, &self.incoming());
        let other = made.dx.iter_mut().zip(self.dadded.unwrap_or_default());
        other.for_each(|(dx, dadded)| *dx += dadded);
        made
    }

    /// Leaves those of two lists of values whose place is not near the ReLU's corner.
    fn sure(&self, actual: Vec<f32>, values: Vec<f64>) -> (Vec<f32>, Vec<f64>) {
        if !self.has_relu() {
            return (actual, values);
        }
        let pairs = actual.into_iter().zip(values).zip(self.sum());
        pairs
            .filter(|(_, sum)| sum.abs() > NEAR_ZERO)
            .map(|(pair, _)| pair)
            .unzip()
    }
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
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

/// Compares what a subject has `written` into the first set of tensors; what is too fast to be right is not timed.
pub fn verify(subject: &Subject, tensors: &Tensors, written: Vec<Written>) -> anyhow::Result<()> {
    let line = &subject.line;
    let prenorm = line.prenorm();
    let expected = Expected {
        tensors,
        x: tensors.values(if prenorm { "added" } else { "x" }),
        dadded: prenorm.then(|| tensors.values("dadded")),
        epilogue: line.epilogue(),
        oracle: line.oracle(tensors),
    };
    let name = subject.to_string();
    let rounding = match line.common().problem.dtype {
        Dtype::F32 => 0.0,
        Dtype::F16 => 2f64.powi(-11),
        _ => 2f64.powi(-8),
    };
    // A value that is rounded before the weight, too, may come from the other side of the middle between two, beside a bias.
    let unit = if line.rounds_before_weight() {
        2.0 * rounding
    } else {
        0.0
    };
    let each = Bound::new(2e-6 + rounding + unit, 2e-5 + 4.0 * unit);
    // A few values may come from the other side of the ReLU.
    let flipped = if expected.has_relu() { 4.0 } else { 0.0 };
    let dx = Bound::new(
        each.relative,
        each.absolute + flipped / tensors.per_statistic,
    );
    // Sums of so many values of either sign.
    let count = tensors.values("x").len() as f64 / tensors.weight.len().max(1) as f64;
    let sums = Bound::new(1e-4, 1e-6 * count + flipped + 4.0 * unit);
    let gradient = |from: &str, values: Vec<f64>, bound| -> anyhow::Result<()> {
        let (actual, values) = expected.sure(tensors.read(from)?, values);
        within(&name, &actual, &values, bound)?;
        Ok(())
    };
    let mut gradients = None;
    for written in written {
        match written {
            Written::Y => {
                let mut y = expected.y();
                if subject.then_relu {
                    y.iter_mut().for_each(|y| *y = y.max(0.0));
                }
                within(&name, &tensors.read("out")?, &y, each)?;
            }
            Written::Added => {
                within(&name, &tensors.read("added")?, expected.x, Bound::EXACT)?;
            }
            Written::Dx => {
                let made = gradients.get_or_insert_with(|| expected.gradients());
                gradient("out", std::mem::take(&mut made.dx), dx)?;
            }
            Written::Parameters { buffer, rows } => {
                let made = gradients.get_or_insert_with(|| expected.gradients());
                for (row, values) in rows.into_iter().zip([&made.dweight, &made.dbias]) {
                    if let Some(row) = row {
                        within(&name, &tensors.read_row(buffer, row)?, values, sums)?;
                    }
                }
            }
            Written::Residual => gradient("dresidual", expected.incoming(), dx)?,
            Written::Row {
                buffer,
                row,
                values,
                bound,
            } => {
                within(&name, &tensors.read_row(buffer, row)?, &values, bound)?;
            }
        }
    }
    Ok(())
}
