//! A tensor of a state file, as its bytes.

use half::{bf16, f16};
use safetensors::Dtype;

use crate::dtype::elements;
use crate::error::StateError;

/// A tensor of a state file: a type, a shape, and the bytes of its values, little-endian and row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl StoredTensor {
    /// A tensor of any type that the format knows.
    ///
    /// # Errors
    /// [`StateError::Shape`] if the bytes are not those of so many values.
    pub fn new(
        dtype: Dtype,
        shape: impl Into<Vec<usize>>,
        data: Vec<u8>,
    ) -> Result<Self, StateError> {
        let shape = shape.into();
        let bits = count(&shape).and_then(|count| count.checked_mul(dtype.bitsize()));
        match bits == data.len().checked_mul(8) && bits.is_some() {
            true => Ok(Self { dtype, shape, data }),
            false => Err(StateError::Shape {
                tensor: format!("{dtype} tensor"),
                expected: format!("for {} bytes", data.len()),
                got: shape,
            }),
        }
    }

    /// A tensor of f32 values.
    ///
    /// ```
    /// use wgpu_norm::state::StoredTensor;
    /// let kernel = StoredTensor::from_f32([1, 1, 1, 2], &[0.5, -1.0])?;
    /// assert_eq!(kernel.to_f32(), Some(vec![0.5, -1.0]));
    /// # Ok::<(), wgpu_norm::StateError>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_f32(shape: impl Into<Vec<usize>>, values: &[f32]) -> Result<Self, StateError> {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        Self::new(Dtype::F32, shape, bytes.collect())
    }

    /// The type of the values.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The extents, the slowest first. Empty for a single value.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The values of a tensor in F32, F16, BF16 or F64; those in F64 are rounded. `None` for other types.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        let bytes = &self.data;
        Some(match self.dtype {
            Dtype::F32 => elements::<f32>(bytes).collect(),
            Dtype::F16 => elements::<f16>(bytes).map(f16::to_f32).collect(),
            Dtype::BF16 => elements::<bf16>(bytes).map(bf16::to_f32).collect(),
            Dtype::F64 => {
                let words = bytes.chunks_exact(8);
                let value = |word: &[u8]| f64::from_le_bytes(word.try_into().unwrap_or_default());
                words.map(|word| value(word) as f32).collect()
            }
            _ => return None,
        })
    }

    /// The only value of a tensor of integers; `None` for other types and for another number of values.
    pub(super) fn to_integer(&self) -> Option<i128> {
        let bytes = &self.data;
        match self.dtype {
            Dtype::I64 => Some(i64::from_le_bytes(bytes[..].try_into().ok()?).into()),
            Dtype::U64 => Some(u64::from_le_bytes(bytes[..].try_into().ok()?).into()),
            Dtype::I32 => Some(i32::from_le_bytes(bytes[..].try_into().ok()?).into()),
            Dtype::U32 => Some(u32::from_le_bytes(bytes[..].try_into().ok()?).into()),
            _ => None,
        }
    }

    /// A tensor whose size is that of its type and shape.
    pub(super) fn checked(dtype: Dtype, shape: Vec<usize>, data: Vec<u8>) -> Self {
        Self { dtype, shape, data }
    }
}

/// The number of values of a shape; `None` if it overflows.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    let mut extents = shape.iter();
    extents.try_fold(1usize, |count, &extent| count.checked_mul(extent))
}
