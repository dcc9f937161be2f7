//! What a value of an activation is stored as.

use std::fmt;
use std::str::FromStr;

use crate::error::ShapeError;
use crate::shape::Shape;

/// The storage type of activations and their gradients. Statistics, parameters and their gradients are f32
/// whatever it is, and all arithmetic is f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE binary32.
    #[default]
    F32,
    /// IEEE binary16, two to a word; needs no feature of the device. Values are rounded to nearest, ties to
    /// even; what is too large becomes infinity.
    F16,
    /// bfloat16, the upper half of an f32, two to a word; rounded as f16.
    Bf16,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bytes of one value.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Bytes of a buffer for so many values: whole vectors of four.
    pub const fn buffer_bytes(self, elements: usize) -> u64 {
        (elements as u64).div_ceil(4) * 4 * self.bytes()
    }

    /// The name in problem lines: `f32`, `f16` or `bf16`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// Values as a buffer holds them, padded with zeros to whole vectors.
    pub(crate) fn to_words(self, values: &[f32]) -> Vec<u32> {
        let mut words: Vec<u32> = match self {
            Self::F32 => values.iter().map(|v| v.to_bits()).collect(),
            Self::F16 => pairs(values, |v| half::f16::from_f32(v).to_bits()),
            Self::Bf16 => pairs(values, |v| half::bf16::from_f32(v).to_bits()),
        };
        words.resize(self.buffer_bytes(values.len()) as usize / 4, 0);
        words
    }

    /// The first `count` values of a buffer.
    pub(crate) fn of_words(self, words: &[u32], count: usize) -> Vec<f32> {
        let halves = words
            .iter()
            .flat_map(|word| [*word as u16, (word >> 16) as u16])
            .take(count);
        match self {
            Self::F32 => words
                .iter()
                .copied()
                .map(f32::from_bits)
                .take(count)
                .collect(),
            Self::F16 => halves
                .map(|bits| half::f16::from_bits(bits).to_f32())
                .collect(),
            Self::Bf16 => halves
                .map(|bits| half::bf16::from_bits(bits).to_f32())
                .collect(),
        }
    }
}

/// Two values to a word, the first in its lower half.
fn pairs(values: &[f32], round: impl Fn(f32) -> u16) -> Vec<u32> {
    let half = |value: Option<&f32>| value.map_or(0, |&value| u32::from(round(value)));
    values
        .chunks(2)
        .map(|pair| half(pair.first()) | half(pair.get(1)) << 16)
        .collect()
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a plan is made for: a shape and the storage type of its values.
///
/// A [`Shape`] alone stands for f32. As a problem line, the type follows the shape's:
///
/// ```
/// use wgpu_norm::{Dtype, Problem, Shape};
/// let problem: Problem = "n32c64h56w56 nchw f16".parse()?;
/// assert_eq!(problem, Problem::new(Shape::nchw(32, 64, 56, 56), Dtype::F16));
/// assert_eq!(problem.to_string(), "n32c64h56w56 nchw f16");
/// # Ok::<(), wgpu_norm::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Extents and layout.
    pub shape: Shape,
    /// The storage type of `x`, `y` and their gradients.
    pub dtype: Dtype,
}

impl Problem {
    /// A shape with a storage type.
    pub const fn new(shape: Shape, dtype: Dtype) -> Self {
        Self { shape, dtype }
    }
}

impl From<Shape> for Problem {
    fn from(shape: Shape) -> Self {
        Self::new(shape, Dtype::F32)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.shape, self.dtype)
    }
}

impl FromStr for Problem {
    type Err = ShapeError;

    fn from_str(line: &str) -> Result<Self, ShapeError> {
        let line = line.trim();
        let last = line.rsplit_once(char::is_whitespace);
        let named = last.and_then(|(rest, word)| {
            Some((rest, Dtype::ALL.into_iter().find(|d| d.name() == word)?))
        });
        let (shape, dtype) = named.unwrap_or((line, Dtype::F32));
        let shape = shape.parse().map_err(|_| ShapeError::Line {
            line: line.to_owned(),
        })?;
        Ok(Self { shape, dtype })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_line_reads_back() {
        for dtype in Dtype::ALL {
            let problem = Problem::new(Shape::nhwc(2, 3, 4, 5), dtype);
            assert_eq!(problem.to_string().parse(), Ok(problem));
        }
        assert_eq!("n2c3".parse(), Ok(Problem::from(Shape::nc(2, 3))));
        assert!("n2c3 f8".parse::<Problem>().is_err());
        assert!("f16".parse::<Problem>().is_err());
    }

    #[test]
    fn values_are_packed_into_whole_vectors() {
        for dtype in Dtype::ALL {
            let values = [1.0, -2.5, 0.0, 3.0, 0.5];
            let words = dtype.to_words(&values);
            assert_eq!(words.len() as u64 * 4, dtype.buffer_bytes(5));
            assert_eq!(dtype.of_words(&words, 5), values);
        }
        assert_eq!(Dtype::F16.to_words(&[1.0, -2.0]), [0xc000_3c00, 0]);
    }
}
