//! Tensors on the device.

use std::ops::Range;

use super::open::Gpu;
use crate::dtype::{Dtype, Element, Problem, elements, padded};
use crate::error::{Error, TensorError};
use crate::shape::Shape;

/// A dense tensor on a device. Cheap to clone; clones share the memory.
#[derive(Clone, Debug)]
pub struct Tensor {
    gpu: Gpu,
    problem: Problem,
    buffer: wgpu::Buffer,
}

impl Tensor {
    /// Extents and layout.
    pub fn shape(&self) -> Shape {
        self.problem.shape
    }

    /// The storage type of the values.
    pub fn dtype(&self) -> Dtype {
        self.problem.dtype
    }

    /// Shape and storage type, the argument of plans.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The memory: the values in memory order, padded to whole vectors of four values. The contents of the padding
    /// are unspecified.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// The whole buffer, as plans bind it.
    pub(crate) fn slice(&self) -> wgpu::BufferSlice<'_> {
        self.buffer.slice(..)
    }

    /// The device of the tensor.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The values in memory order, `N·C·S` of them, converted to f32. Blocks until all work submitted so far is done.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError); [`TensorError::Unreadable`] if
    /// the tensor was made from a buffer without `COPY_SRC`, or of another device.
    pub fn read(&self) -> Result<Vec<f32>, Error> {
        self.gpu
            .download("tensor", &self.whole(), |bytes| self.widened(bytes))
    }

    /// [`read`](Self::read) as a future, which runs on any executor: a thread of its own waits for the device.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_async(&self) -> Result<Vec<f32>, Error> {
        self.gpu
            .download_async("tensor", &self.whole(), |bytes| self.widened(bytes))
            .await
    }

    /// The values in memory order, `N·C·S` of them, with the bits that the device holds. Blocks until all work
    /// submitted so far is done.
    ///
    /// ```no_run
    /// # use wgpu_norm::{Gpu, Shape, half::f16};
    /// # let gpu = Gpu::open()?;
    /// let x = gpu.tensor_of(Shape::nc(2, 1), &[f16::ONE, f16::INFINITY])?;
    /// assert_eq!(x.read_as::<f16>()?, [f16::ONE, f16::INFINITY]);
    /// # Ok::<(), wgpu_norm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`TensorError::Dtype`] if `T` is not the tensor's storage type; otherwise as [`read`](Self::read).
    pub fn read_as<T: Element>(&self) -> Result<Vec<T>, Error> {
        self.check_type::<T>()?;
        self.gpu
            .download("tensor", &self.whole(), |bytes| self.stored(bytes))
    }

    /// [`read_as`](Self::read_as) as a future, which runs on any executor: a thread of its own waits for the device.
    ///
    /// # Errors
    /// As [`read_as`](Self::read_as).
    pub async fn read_as_async<T: Element>(&self) -> Result<Vec<T>, Error> {
        self.check_type::<T>()?;
        self.gpu
            .download_async("tensor", &self.whole(), |bytes| self.stored(bytes))
            .await
    }

    /// The number of values.
    pub(crate) fn len(&self) -> usize {
        // A tensor is only made for a shape whose values can be counted.
        self.problem.shape.elements().unwrap_or(0)
    }

    fn whole(&self) -> [(&wgpu::Buffer, Range<u64>); 1] {
        [(&self.buffer, 0..self.dtype().buffer_bytes(self.len()))]
    }

    fn widened(&self, bytes: &[u8]) -> Vec<f32> {
        let mut values = self.dtype().unpack(bytes);
        values.truncate(self.len());
        values
    }

    fn stored<T: Element>(&self, bytes: &[u8]) -> Vec<T> {
        elements(bytes).take(self.len()).collect()
    }

    fn check_type<T: Element>(&self) -> Result<(), TensorError> {
        if T::DTYPE == self.dtype() {
            return Ok(());
        }
        Err(TensorError::Dtype {
            field: "tensor",
            expected: T::DTYPE,
            got: self.dtype(),
        })
    }
}

impl Gpu {
    /// Uploads `values`, in the memory order of the shape, rounded to the problem's storage type: to nearest, ties to
    /// even. A [`Shape`] alone stores f32.
    ///
    /// ```no_run
    /// # use wgpu_norm::{Dtype, Gpu, Problem, Shape};
    /// # let gpu = Gpu::open()?;
    /// let x = gpu.tensor(Shape::nc(2, 1), &[1.0, 2.0])?;
    /// let x = gpu.tensor(Problem::new(Shape::nc(2, 1), Dtype::F16), &[1.0, 2.0])?;
    /// # Ok::<(), wgpu_norm::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`TensorError::Length`] if `values` are not the shape's `N·C·S`; [`PlanError::Limit`](crate::PlanError::Limit) above
    /// the device's `max_buffer_size`; [`GpuError::OutOfMemory`](crate::GpuError::OutOfMemory).
    pub fn tensor(&self, problem: impl Into<Problem>, values: &[f32]) -> Result<Tensor, Error> {
        let problem = problem.into();
        self.upload(problem, values.len(), || problem.dtype.pack(values))
    }

    /// Uploads `values`, in the memory order of the shape, as they are: a tensor of the storage type
    /// [`T::DTYPE`](Element::DTYPE).
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_of<T: Element>(&self, shape: Shape, values: &[T]) -> Result<Tensor, Error> {
        let problem = Problem::new(shape, T::DTYPE);
        self.upload(problem, values.len(), || padded(values))
    }

    fn upload(
        &self,
        problem: Problem,
        count: usize,
        contents: impl FnOnce() -> Vec<u8>,
    ) -> Result<Tensor, Error> {
        if problem.shape.elements() != Some(count) {
            return Err(wrong_length("values", problem, count).into());
        }
        Ok(Tensor {
            gpu: self.clone(),
            problem,
            buffer: self.filled_buffer("tensor", &contents())?,
        })
    }

    /// A tensor in a buffer of the application's, which holds the values padded to whole vectors of four
    /// ([`Dtype::buffer_bytes`]) from its first byte on.
    ///
    /// # Errors
    /// [`TensorError::Length`] if the buffer is smaller than that. A buffer of another device, or without a usage that
    /// is needed, is an error of the first call that binds or reads the tensor.
    pub fn tensor_from_buffer(
        &self,
        problem: impl Into<Problem>,
        buffer: wgpu::Buffer,
    ) -> Result<Tensor, Error> {
        let problem = problem.into();
        let elements = problem.shape.elements();
        let needed = elements.map(|count| problem.dtype.buffer_bytes(count));
        if needed.is_none_or(|needed| buffer.size() < needed) {
            let values = buffer.size() / (4 * problem.dtype.bytes()) * 4;
            return Err(wrong_length("buffer", problem, values as usize).into());
        }
        Ok(Tensor {
            gpu: self.clone(),
            problem,
            buffer,
        })
    }

    /// A tensor for the output of a kernel; `elements` is the shape's number of values.
    pub(crate) fn uninitialized(&self, problem: Problem, elements: usize) -> Result<Tensor, Error> {
        let bytes = problem.dtype.buffer_bytes(elements);
        Ok(Tensor {
            gpu: self.clone(),
            problem,
            buffer: self.new_buffer("tensor", bytes)?,
        })
    }
}

fn wrong_length(field: &'static str, problem: Problem, got: usize) -> TensorError {
    TensorError::Length {
        field,
        shape: problem.to_string(),
        expected: problem.shape.elements().unwrap_or(usize::MAX),
        got,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::test_gpu;
    use half::{bf16, f16};
    use pollster::block_on;

    const SHAPE: Shape = Shape::nc(5, 1);
    const VALUES: [f32; 5] = [1.0, -2.5, 0.1, 1e5, 0.0];

    #[test]
    fn a_tensor_holds_what_its_type_rounds_to() {
        for &dtype in Dtype::ALL {
            let problem = Problem::new(SHAPE, dtype);
            let tensor = test_gpu().tensor(problem, &VALUES).unwrap();
            assert_eq!(tensor.problem(), problem);
            let stored = &dtype.unpack(&dtype.pack(&VALUES))[..5];
            assert_eq!(tensor.read().unwrap(), stored);
            assert_eq!(block_on(tensor.read_async()).unwrap(), stored);
        }
        let tensor = test_gpu().tensor(SHAPE, &VALUES).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32);
    }

    #[test]
    fn elements_keep_their_bits() {
        fn check<T: Element + PartialEq + std::fmt::Debug>(values: [T; 5]) {
            let tensor = test_gpu().tensor_of(SHAPE, &values).unwrap();
            assert_eq!(tensor.dtype(), T::DTYPE);
            let bits = bytemuck::cast_slice::<T, u8>;
            assert_eq!(bits(&tensor.read_as::<T>().unwrap()), bits(&values));
            let read = block_on(tensor.read_as_async::<T>()).unwrap();
            assert_eq!(bits(&read), bits(&values));
        }
        check(VALUES);
        // Subnormal, infinite and NaN with a payload.
        check([0x0001, 0x7c00, 0x7e55, 0x8000, 0x3c00].map(f16::from_bits));
        check([0x0001, 0x7f80, 0x7fd5, 0x8000, 0x3f80].map(bf16::from_bits));
    }

    #[test]
    fn another_type_is_an_error_that_names_both() {
        let tensor = test_gpu().tensor(SHAPE, &VALUES).unwrap();
        let expected = TensorError::Dtype {
            field: "tensor",
            expected: Dtype::F16,
            got: Dtype::F32,
        };
        assert_eq!(
            tensor.read_as::<f16>().unwrap_err(),
            expected.clone().into()
        );
        let error = block_on(tensor.read_as_async::<f16>()).unwrap_err();
        assert_eq!(error, expected.into());
        let error = test_gpu().tensor_of(SHAPE, &[f16::ONE; 4]).unwrap_err();
        assert_eq!(error.to_string(), "values: n5c1 nc f16 has 5 values, got 4");
    }

    #[test]
    fn tensors_without_values() {
        let empty = Shape::nchw(0, 3, 2, 2);
        for tensor in [
            test_gpu().tensor(empty, &[]).unwrap(),
            test_gpu().tensor_of::<f32>(empty, &[]).unwrap(),
        ] {
            assert_eq!(tensor.read().unwrap(), [0f32; 0]);
            assert_eq!(tensor.read_as::<f32>().unwrap(), [0f32; 0]);
            assert_eq!(block_on(tensor.read_async()).unwrap(), [0f32; 0]);
        }
    }
}
