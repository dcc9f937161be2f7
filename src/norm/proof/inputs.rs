//! Values to try kernels with, and how a device's buffers hold them.

use crate::dtype::{Dtype, Problem};
use crate::gpu::program::Field;
use crate::norm::field::{MOMENTS, PARTS, RUNNING, SAVED};
use crate::norm::options::Epilogue;
use crate::norm::twin::memory::Memory;
use crate::reference::compare::Bound;
use crate::reference::{Moments, noise};

/// What the values are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Channels differ in mean and scale; one is far from zero, one nearly constant.
    Noise,
    /// Small integers: sums are exact, and with 2^n values in each statistic so are means and squared deviations.
    Integers,
    /// Each statistic has one value, an integer: the output is the bias, and the weight has no gradient.
    Constant,
}

/// The nearest f32, as an f64.
pub fn round(value: f64) -> f64 {
    f64::from(value as f32)
}

/// The tensors and parameters of a case.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    pub problem: Problem,
    pub epilogue: Epilogue,
    /// The number of weights, if there are any.
    pub weight: Option<usize>,
    /// The number of biases, if there are any.
    pub bias: Option<usize>,
    pub fill: Fill,
}

fn sigmoid(value: f64) -> f64 {
    (1.0 + (-value).exp()).recip()
}

/// Near the mean of a channel.
pub fn center(channel: usize) -> f64 {
    match channel % 7 {
        3 => 1000.0,
        c => c as f64 - 2.0,
    }
}

impl Inputs {
    pub fn elements(&self) -> usize {
        self.problem.shape.elements().expect("a small shape")
    }

    /// The nearest value of the storage type.
    pub fn stored(&self, value: f64) -> f64 {
        stored(self.problem.dtype, value)
    }

    pub fn x(&self) -> Vec<f64> {
        let shape = self.problem.shape;
        let value = |(i, v): (usize, f64)| {
            let channel = shape.channel_of(i);
            let scale = match channel % 7 {
                5 => 1e-3,
                _ => 1.0 + (channel % 3) as f64,
            };
            match self.fill {
                Fill::Noise => self.stored(center(channel) + scale * v),
                Fill::Integers => (4.0 * v).round() + (channel % 5) as f64,
                Fill::Constant => (channel % 11) as f64 - 3.0,
            }
        };
        noise(1, self.elements()).enumerate().map(value).collect()
    }

    /// The gradient of the output, given the values before ReLU. Where those are too near zero for f32 to tell the side, it
    /// is zero.
    pub fn dy(&self, before_relu: &[f64]) -> Vec<f64> {
        let clear = |near: f64| near.abs() > 1e-3 || self.epilogue != Epilogue::Relu;
        let value = |v: f64| match self.fill {
            Fill::Noise => self.stored(v + 0.25),
            Fill::Integers | Fill::Constant => (4.0 * v).round(),
        };
        noise(2, self.elements())
            .zip(before_relu)
            .map(|(v, &near)| if clear(near) { value(v) } else { 0.0 })
            .collect()
    }

    pub fn residual(&self) -> Vec<f64> {
        noise(10, self.elements())
            .map(|v| self.stored(2.0 * v))
            .collect()
    }

    /// The gradient that the input has by another way.
    pub fn dadded(&self) -> Vec<f64> {
        noise(12, self.elements()).map(|v| self.stored(v)).collect()
    }

    /// An f32, or a multiple of 1/8 that each storage type has.
    fn parameter(&self, value: f64) -> f64 {
        match self.fill {
            Fill::Noise => round(value),
            _ => (8.0 * value).round() / 8.0,
        }
    }

    pub fn weight(&self) -> Option<Vec<f64>> {
        let values = |count| noise(3, count).map(|v| self.parameter(1.5 + v));
        self.weight.map(|count| values(count).collect())
    }

    pub fn bias(&self) -> Option<Vec<f64>> {
        let values = |count| noise(4, count).map(|v| self.parameter(v));
        self.bias.map(|count| values(count).collect())
    }

    pub fn affine(&self) -> Vec<f64> {
        let rows = [self.weight(), self.bias()];
        rows.into_iter().flatten().flatten().collect()
    }

    /// Parameter gradients that the caller has accumulated before.
    pub fn accumulated(&self) -> Vec<f64> {
        let values = noise(11, self.affine().len());
        values.map(|v| self.parameter(v)).collect()
    }

    /// The output of an epilogue.
    pub fn output(&self, before_relu: Vec<f64>) -> Vec<f64> {
        match self.epilogue {
            Epilogue::Identity => before_relu,
            Epilogue::Silu => before_relu.into_iter().map(|y| y * sigmoid(y)).collect(),
            Epilogue::Relu | Epilogue::AddRelu => {
                before_relu.into_iter().map(|y| y.max(0.0)).collect()
            }
        }
    }

    /// The gradient of the normalized values.
    pub fn incoming(&self, before_relu: &[f64]) -> Vec<f64> {
        let passed = |g: f64, passes: bool| if passes { g } else { 0.0 };
        let incoming = |(g, &v): (f64, &f64)| match self.epilogue {
            Epilogue::Identity => g,
            Epilogue::Relu => passed(g, v > 0.0),
            // As stored: a value that rounds to zero has not passed.
            Epilogue::AddRelu => passed(g, self.stored(v.max(0.0)) > 0.0),
            Epilogue::Silu => g * (sigmoid(v) + v * sigmoid(v) * sigmoid(-v)),
        };
        let dy = self.dy(before_relu).into_iter();
        dy.zip(before_relu).map(incoming).collect()
    }
}

/// The nearest value of a storage type.
pub fn stored(dtype: Dtype, value: f64) -> f64 {
    match dtype {
        Dtype::F32 => round(value),
        Dtype::F16 => half::f16::from_f32(value as f32).into(),
        Dtype::Bf16 => half::bf16::from_f32(value as f32).into(),
    }
}

/// How a case's buffers hold values.
#[derive(Clone, Copy, Debug)]
pub struct Storage {
    /// Of activations.
    pub dtype: Dtype,
    /// Channels that have two counters of batches behind their running statistics.
    pub counters: usize,
}

/// Memory as a device's buffers would hold it.
pub fn rounded(storage: Storage, mut memory: Memory) -> Memory {
    for field in memory.fields() {
        let values = memory.values(field).to_vec();
        let words = words_of(storage, field, &values);
        memory.insert(field, values_of(storage, field, &words, values.len()));
    }
    memory
}

/// Values as a buffer holds them.
pub fn words_of(storage: Storage, field: Field, values: &[f64]) -> Vec<u32> {
    let singles: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    if field.is_activation() {
        return storage.dtype.to_words(&singles);
    }
    let integers = storage.integers_from(field, values.len());
    let word = |(i, &v): (usize, &f32)| if i < integers { v.to_bits() } else { v as u32 };
    singles.iter().enumerate().map(word).collect()
}

/// The first `count` values of a buffer.
pub fn values_of(storage: Storage, field: Field, words: &[u32], count: usize) -> Vec<f64> {
    if field.is_activation() {
        let values = storage.dtype.of_words(words, count);
        return values.into_iter().map(f64::from).collect();
    }
    let integers = storage.integers_from(field, count);
    let value = |(i, &w): (usize, &u32)| {
        if i < integers {
            f32::from_bits(w).into()
        } else {
            w.into()
        }
    };
    words.iter().take(count).enumerate().map(value).collect()
}

impl Storage {
    /// The index from which a buffer holds integers.
    fn integers_from(self, field: Field, len: usize) -> usize {
        // Backward takes running statistics without their counters.
        match field == RUNNING && len == 4 * self.counters {
            true => 2 * self.counters,
            false => len,
        }
    }
}

/// Values with the mean and its rest in one number.
pub fn whole_means(field: Field, values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    // The mean is the first row, its rest the second of moments, and the third of saved statistics.
    let (rows, low) = match field {
        SAVED => (3, 2),
        MOMENTS => (4, 1),
        _ => return values,
    };
    let count = values.len() / rows;
    for index in 0..count {
        values[index] += std::mem::take(&mut values[low * count + index]);
    }
    values
}

/// Entries of moments in scratch memory, with pivot and offset in one number.
pub fn whole_entries(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    for entry in values.chunks_exact_mut(4) {
        entry[0] += std::mem::take(&mut entry[1]);
    }
    values
}

/// How far a stored result may be from the right one, given how far f32 may be.
pub fn f32_bound(field: Field, dtype: Dtype, exact: Bound) -> Bound {
    // Storing rounds once more: by half a unit of the last place, or of the smallest subnormal.
    let (relative, absolute) = match dtype {
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

/// Moments as a buffer holds them.
pub fn moment_rows(moments: &[Moments]) -> Vec<f64> {
    let row = |value: fn(&Moments) -> f64| moments.iter().map(value).collect::<Vec<_>>();
    [
        row(|m| round(m.mean)),
        row(|m| m.mean - round(m.mean)),
        row(|m| m.m2),
        row(|m| m.count),
    ]
    .concat()
}

/// Rows of parts as a buffer holds them, with NaN between the parts.
pub fn parts(rows: &[Vec<f64>], bytes: u64) -> (Field, Vec<f64>) {
    let all = (bytes / 4) as usize;
    let stride = match rows.len() {
        0 | 1 => all,
        parts => (all - rows[0].len()) / (parts - 1),
    };
    let mut values = vec![f64::NAN; all];
    for (part, rows) in rows.iter().enumerate() {
        values[part * stride..part * stride + rows.len()].copy_from_slice(rows);
    }
    (PARTS, values)
}
