//! Storage types of activations, and the conversion between host values and the bytes of a buffer.

use std::fmt;
use std::str::FromStr;

use half::{bf16, f16};

use crate::shape::{Shape, ShapeError};
use crate::word::words;

/// The storage type of activations and their gradients. It affects memory only: arithmetic, statistics,
/// parameters and parameter gradients are f32 with every storage type.
///
/// `Display` and `FromStr` use the names `f32`, `f16` and `bf16`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE binary32.
    #[default]
    F32,
    /// IEEE binary16, two values in a 32-bit word; needs no feature of the device. Stores round to nearest, ties
    /// to even; values beyond the largest finite one become infinity.
    F16,
    /// bfloat16, the upper half of an f32, two values in a 32-bit word; rounded as [`F16`](Self::F16).
    Bf16,
}

words!(Dtype, "dtype", "f32, f16 or bf16": F32 "f32", F16 "f16", Bf16 "bf16");

impl Dtype {
    /// Bytes per value.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The size in bytes of a buffer for `elements` values, padded to whole vectors of four values. `u64::MAX`, which
    /// no buffer has, if it overflows.
    pub const fn buffer_bytes(self, elements: usize) -> u64 {
        (elements as u64)
            .div_ceil(4)
            .saturating_mul(4 * self.bytes())
    }

    /// The contents of a buffer that stores `values`: little-endian, rounded to the storage type (to nearest, ties to
    /// even), padded with zeros to whole vectors of four values. The result has
    /// [`buffer_bytes(values.len())`](Self::buffer_bytes) bytes.
    ///
    /// ```
    /// use wgpu_norm::Dtype;
    /// let bytes = Dtype::F16.pack(&[1.0, -2.0, 0.5]);
    /// assert_eq!(bytes, [0x00, 0x3c, 0x00, 0xc0, 0x00, 0x38, 0, 0]);
    /// assert_eq!(Dtype::F16.unpack(&bytes), [1.0, -2.0, 0.5, 0.0]);
    /// ```
    pub fn pack(self, values: &[f32]) -> Vec<u8> {
        fn rounded<T: Element>(values: &[f32]) -> Vec<u8> {
            padded(&values.iter().map(|&v| T::round(v)).collect::<Vec<_>>())
        }
        match self {
            Self::F32 => padded(values),
            Self::F16 => rounded::<f16>(values),
            Self::Bf16 => rounded::<bf16>(values),
        }
    }

    /// The values that a buffer with these contents stores, as f32, the inverse of [`pack`](Self::pack). The result
    /// includes the padding: truncate it to [`Shape::elements`]. Bytes after the last whole value are ignored.
    pub fn unpack(self, bytes: &[u8]) -> Vec<f32> {
        fn widened<T: Element>(bytes: &[u8]) -> Vec<f32> {
            elements::<T>(bytes).map(T::widen).collect()
        }
        match self {
            Self::F32 => widened::<f32>(bytes),
            Self::F16 => widened::<f16>(bytes),
            Self::Bf16 => widened::<bf16>(bytes),
        }
    }

    /// [`pack`](Self::pack) in 32-bit words.
    pub(crate) fn to_words(self, values: &[f32]) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.pack(values))
    }

    /// The first `count` values of a buffer with these words.
    pub(crate) fn of_words(self, words: &[u32], count: usize) -> Vec<f32> {
        let mut values = self.unpack(bytemuck::cast_slice(words));
        values.truncate(count);
        values
    }
}

/// A host type with the bits of a [`Dtype`]: `f32`, [`half::f16`] or [`half::bf16`]. Sealed.
pub trait Element: sealed::Sealed {
    /// The storage type with these bits.
    const DTYPE: Dtype;
}

mod sealed {
    /// Conversions that [`Element`](super::Element) keeps to the crate.
    pub trait Sealed: bytemuck::Pod + Send + Sync {
        fn round(value: f32) -> Self;
        fn widen(self) -> f32;
    }
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl sealed::Sealed for f32 {
    fn round(value: f32) -> Self {
        value
    }
    fn widen(self) -> f32 {
        self
    }
}

impl Element for f16 {
    const DTYPE: Dtype = Dtype::F16;
}

impl sealed::Sealed for f16 {
    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}

impl sealed::Sealed for bf16 {
    fn round(value: f32) -> Self {
        Self::from_f32(value)
    }
    fn widen(self) -> f32 {
        self.to_f32()
    }
}

/// The bytes of `values`, padded with zeros to whole vectors of four values.
pub(crate) fn padded<T: Element>(values: &[T]) -> Vec<u8> {
    let size = values.len().div_ceil(4) * 4 * size_of::<T>();
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(bytemuck::cast_slice(values));
    bytes.resize(size, 0);
    bytes
}

/// The whole values in `bytes`, which need not be aligned.
pub(crate) fn elements<T: Element>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes
        .chunks_exact(size_of::<T>())
        .map(bytemuck::pod_read_unaligned)
}

/// The input of a plan: a shape and the storage type of its values.
///
/// A [`Shape`] alone converts to a problem of f32 values. In a problem line, the storage type follows the shape; a
/// line without one is f32:
///
/// ```
/// use wgpu_norm::{Dtype, Problem, Shape};
/// let problem: Problem = "n32c64h56w56 nchw f16".parse()?;
/// assert_eq!(problem, Problem::new(Shape::nchw(32, 64, 56, 56), Dtype::F16));
/// assert_eq!(problem.to_string(), "n32c64h56w56 nchw f16");
/// # Ok::<(), wgpu_norm::ShapeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
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
        let named = last.and_then(|(rest, word)| Some((rest, word.parse().ok()?)));
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
        for &dtype in Dtype::ALL {
            let problem = Problem::new(Shape::nhwc(2, 3, 4, 5), dtype);
            assert_eq!(problem.to_string().parse(), Ok(problem));
        }
        assert_eq!("n2c3".parse(), Ok(Problem::from(Shape::nc(2, 3))));
        for line in ["n2c3 f8", "f16", ""] {
            let error = line.parse::<Problem>().expect_err(line);
            assert!(error.to_string().contains(&format!("{line:?}")), "{error}");
        }
    }

    #[test]
    fn a_dtype_reads_back_and_no_other_word_does() {
        for &dtype in Dtype::ALL {
            assert_eq!(dtype.to_string().parse(), Ok(dtype));
        }
        for word in ["", "F32", "f8", " f16", "bf16 "] {
            let error = word.parse::<Dtype>().expect_err(word);
            assert_eq!(error.word, word);
            assert!(error.to_string().ends_with("write f32, f16 or bf16"));
        }
    }

    #[test]
    fn values_are_packed_into_whole_vectors() {
        let values = [1.0, -2.5, 0.0, 3.0, 0.5];
        for &dtype in Dtype::ALL {
            for count in 0..=values.len() {
                let bytes = dtype.pack(&values[..count]);
                assert_eq!(bytes.len() as u64, dtype.buffer_bytes(count));
                let back = dtype.unpack(&bytes);
                assert_eq!(back[..count], values[..count], "{dtype}");
                assert!(back[count..].iter().all(|v| v.to_bits() == 0), "{dtype}");
                let words = dtype.to_words(&values[..count]);
                assert_eq!(dtype.of_words(&words, count), values[..count]);
            }
        }
        assert_eq!(Dtype::F16.to_words(&[1.0, -2.0]), [0xc000_3c00, 0]);
        assert_eq!(Dtype::Bf16.to_words(&[1.0, -2.0]), [0xc000_3f80, 0]);
        assert_eq!(Dtype::F32.buffer_bytes(usize::MAX), u64::MAX);
    }

    #[test]
    fn packing_rounds_ties_to_even_and_keeps_special_values() {
        let ulp = 2f32.powi(-10);
        let values = [
            1.0 + 0.5 * ulp,
            1.0 + 1.5 * ulp,
            65504.0,
            65520.0,
            -0.0,
            f32::NEG_INFINITY,
        ];
        let bits: Vec<u16> = bytemuck::pod_collect_to_vec(&Dtype::F16.pack(&values));
        assert_eq!(
            bits[..6],
            [0x3c00, 0x3c02, 0x7bff, 0x7c00, 0x8000, 0xfc00],
            "{bits:x?}"
        );
        for &dtype in Dtype::ALL {
            assert!(dtype.unpack(&dtype.pack(&[f32::NAN]))[0].is_nan());
        }
    }

    #[test]
    fn the_end_of_a_value_is_ignored_and_bytes_need_no_alignment() {
        let bytes = [&[0][..], &Dtype::Bf16.pack(&[1.5, -3.0]), &[9]].concat();
        assert_eq!(Dtype::Bf16.unpack(&bytes[1..]), [1.5, -3.0, 0.0, 0.0]);
        assert_eq!(Dtype::F32.unpack(&bytes[..3]), [0f32; 0]);
    }

    #[test]
    fn elements_have_the_size_and_bits_of_their_dtype() {
        fn check<T: Element>() {
            assert_eq!(size_of::<T>() as u64, T::DTYPE.bytes());
            let values = [T::round(-1.25), T::round(3.0)];
            assert_eq!(padded(&values), T::DTYPE.pack(&[-1.25, 3.0]));
        }
        check::<f32>();
        check::<f16>();
        check::<bf16>();
    }
}
