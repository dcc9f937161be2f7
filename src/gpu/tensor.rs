//! Tensors on the device, and transfers between host and device.

use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;

use bytemuck::Pod;
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};

use super::guard::{guarded, scoped};
use super::open::Gpu;
use super::wait::{poke, wait};
use crate::dtype::{Dtype, Element, Problem, elements, padded};
use crate::error::{Error, GpuError, TensorError};
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
    /// [`GpuError::DeviceLost`], [`GpuError::Timeout`] or [`GpuError::OutOfMemory`]; [`TensorError::Unreadable`] if
    /// the tensor was made from a buffer without `COPY_SRC`, or of another device.
    pub fn read(&self) -> Result<Vec<f32>, Error> {
        self.gpu
            .download("tensor", &self.whole(), |bytes| self.widened(bytes))
    }

    /// [`read`](Self::read) as a future, which polls the device itself and so runs on any executor.
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

    /// [`read_as`](Self::read_as) as a future, which polls the device itself and so runs on any executor.
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

/// Usages of the buffers that the crate makes.
const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

/// Tensors.
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
    /// [`TensorError::Length`] if `values` are not the shape's `N·C·S`; [`GpuError::OutOfMemory`].
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
        let tensor = self.uninitialized(problem, count)?;
        self.queue().write_buffer(&tensor.buffer, 0, &contents());
        Ok(tensor)
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
        let buffer = self.buffer("tensor", bytes, USAGE)?;
        Ok(Tensor {
            gpu: self.clone(),
            problem,
            buffer,
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

/// Buffers.
impl Gpu {
    /// The f32 values of a slice, such as running statistics or moments that the host is to combine. Blocks until all
    /// work submitted so far is done.
    ///
    /// # Errors
    /// [`TensorError::Unaligned`] if the slice's offset or size is not a multiple of 4 bytes;
    /// [`TensorError::Unreadable`] if the buffer lacks `COPY_SRC`, or is of another device;
    /// [`GpuError::DeviceLost`], [`GpuError::Timeout`] or [`GpuError::OutOfMemory`].
    pub fn read_f32(&self, slice: wgpu::BufferSlice<'_>) -> Result<Vec<f32>, Error> {
        let range = f32_range(slice)?;
        self.download(
            "slice",
            &[(slice.buffer(), range)],
            bytemuck::pod_collect_to_vec,
        )
    }

    /// [`read_f32`](Self::read_f32) as a future, which polls the device itself and so runs on any executor.
    ///
    /// # Errors
    /// As [`read_f32`](Self::read_f32).
    pub async fn read_f32_async(&self, slice: wgpu::BufferSlice<'_>) -> Result<Vec<f32>, Error> {
        let range = f32_range(slice)?;
        self.download_async(
            "slice",
            &[(slice.buffer(), range)],
            bytemuck::pod_collect_to_vec,
        )
        .await
    }

    /// Writes f32 values to a slice of their size. The write happens before the work of the next submission; the call
    /// does not wait for it.
    ///
    /// # Errors
    /// [`TensorError::Unaligned`] if the slice's offset or size is not a multiple of 4 bytes;
    /// [`TensorError::SliceLength`] if it holds more or fewer values; [`TensorError::Unwritable`] if the buffer lacks
    /// `COPY_DST`, or is of another device.
    pub fn write_f32(&self, slice: wgpu::BufferSlice<'_>, values: &[f32]) -> Result<(), Error> {
        let range = f32_range(slice)?;
        let (expected, got) = ((range.end - range.start) / 4, values.len() as u64);
        if expected != got {
            return Err(TensorError::SliceLength {
                field: "slice",
                expected,
                got,
            }
            .into());
        }
        guarded(self.device(), || {
            let bytes = bytemuck::cast_slice(values);
            self.queue()
                .write_buffer(slice.buffer(), range.start, bytes);
        })
        .map_err(|message| TensorError::Unwritable {
            field: "slice",
            message,
        })?;
        Ok(())
    }

    /// A buffer of parameters or statistics. Its size is `bytes`, or 16 if that is zero, because wgpu can neither bind
    /// nor slice an empty buffer.
    pub(crate) fn state_buffer(
        &self,
        label: &'static str,
        bytes: u64,
    ) -> Result<wgpu::Buffer, Error> {
        self.buffer(label, bytes, USAGE)
    }

    /// `count` values of a buffer of this device with usage `COPY_SRC`, from byte `offset`; offset and size are
    /// multiples of 4. Blocks until all work submitted so far is done.
    pub(crate) fn read_buffer<T: Pod>(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        count: usize,
    ) -> Result<Vec<T>, Error> {
        let range = offset..offset + (count * size_of::<T>()) as u64;
        let values = self.read_many(&[(buffer, range)])?;
        Ok(values.into_iter().flatten().collect())
    }

    /// The values in several byte ranges of buffers, as [`read_buffer`](Self::read_buffer), by one submission and one
    /// wait.
    pub(crate) fn read_many<T: Pod>(
        &self,
        ranges: &[(&wgpu::Buffer, Range<u64>)],
    ) -> Result<Vec<Vec<T>>, Error> {
        self.download("buffer", ranges, |bytes| cut(bytes, ranges))
    }

    /// [`read_many`](Self::read_many) as a future.
    pub(crate) async fn read_many_async<T: Pod>(
        &self,
        ranges: &[(&wgpu::Buffer, Range<u64>)],
    ) -> Result<Vec<Vec<T>>, Error> {
        self.download_async("buffer", ranges, |bytes| cut(bytes, ranges))
            .await
    }

    fn buffer(
        &self,
        label: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        // A size above max_buffer_size is a validation error, one above the free memory an out-of-memory error.
        let filters = [
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Validation,
        ];
        let (buffer, error) = scoped(self.device(), &filters, || {
            self.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: if bytes == 0 { 16 } else { bytes },
                usage,
                mapped_at_creation: false,
            })
        });
        match error {
            None => Ok(buffer),
            Some(_) => Err(GpuError::OutOfMemory { label, bytes }.into()),
        }
    }

    /// Copies the ranges to the host one after another and converts their bytes. Blocks until all work submitted so
    /// far is done.
    fn download<R>(
        &self,
        field: &'static str,
        ranges: &[(&wgpu::Buffer, Range<u64>)],
        convert: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        let Some(transfer) = self.transfer(field, ranges)? else {
            return Ok(convert(&[]));
        };
        wait(self.device())?;
        let mapped = pollster::block_on(transfer.mapped.receive());
        transfer.finish(mapped, convert)
    }

    /// [`download`](Self::download) as a future, which polls the device itself.
    async fn download_async<R>(
        &self,
        field: &'static str,
        ranges: &[(&wgpu::Buffer, Range<u64>)],
        convert: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        let Some(transfer) = self.transfer(field, ranges)? else {
            return Ok(convert(&[]));
        };
        let mut receiving = std::pin::pin!(transfer.mapped.receive());
        let mapped = poll_fn(|context| {
            if let Err(error) = poke(self.device()) {
                return Poll::Ready(Err(error));
            }
            let polled = receiving.as_mut().poll(context);
            if polled.is_pending() {
                // Nothing else may poll the device, so the executor must poll this future again.
                context.waker().wake_by_ref();
            }
            polled.map(Ok)
        })
        .await?;
        transfer.finish(mapped, convert)
    }

    /// Submits the copy of the ranges to one mappable buffer and asks for its mapping; `None` if they have no bytes.
    fn transfer(
        &self,
        field: &'static str,
        ranges: &[(&wgpu::Buffer, Range<u64>)],
    ) -> Result<Option<Transfer>, Error> {
        let bytes: u64 = ranges.iter().map(|(_, range)| size(range)).sum();
        if bytes == 0 {
            return Ok(None);
        }
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = self.buffer("readback", bytes, usage)?;
        guarded(self.device(), || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            let mut end = 0;
            for (buffer, range) in ranges.iter().filter(|(_, range)| size(range) > 0) {
                encoder.copy_buffer_to_buffer(buffer, range.start, &staging, end, size(range));
                end += size(range);
            }
            self.queue().submit([encoder.finish()]);
        })
        .map_err(|message| TensorError::Unreadable { field, message })?;
        let (sender, mapped) = oneshot_channel();
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // A future that was dropped has dropped the receiver.
            let _ = sender.send(result);
        });
        Ok(Some(Transfer { staging, mapped }))
    }
}

/// Bytes on their way to the host.
struct Transfer {
    staging: wgpu::Buffer,
    mapped: OneshotReceiver<Mapped>,
}

type Mapped = Result<(), wgpu::BufferAsyncError>;

impl Transfer {
    /// Converts the mapped bytes.
    fn finish<R>(
        &self,
        mapped: Option<Mapped>,
        convert: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        let lost = |message: String| GpuError::DeviceLost { message };
        mapped
            .ok_or_else(|| lost("the mapping callback was dropped".to_owned()))?
            .map_err(|error| lost(error.to_string()))?;
        let view = self
            .staging
            .slice(..)
            .get_mapped_range()
            .map_err(|error| lost(error.to_string()))?;
        Ok(convert(&view))
    }
}

fn size(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// The values of each range in the bytes of all of them.
fn cut<T: Pod>(mut bytes: &[u8], ranges: &[(&wgpu::Buffer, Range<u64>)]) -> Vec<Vec<T>> {
    let values = ranges.iter().map(|(_, range)| {
        let (first, rest) = bytes.split_at(size(range) as usize);
        bytes = rest;
        bytemuck::pod_collect_to_vec(first)
    });
    values.collect()
}

/// The bytes of a slice of whole f32 values.
fn f32_range(slice: wgpu::BufferSlice<'_>) -> Result<Range<u64>, TensorError> {
    let (offset, size) = (slice.offset(), slice.size());
    if offset % 4 != 0 || size % 4 != 0 {
        return Err(TensorError::Unaligned {
            field: "slice",
            offset,
            size,
        });
    }
    Ok(offset..offset + size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::test_gpu;
    use half::{bf16, f16};
    use pollster::block_on;

    const SHAPE: Shape = Shape::nc(5, 1);
    const VALUES: [f32; 5] = [1.0, -2.5, 0.1, 1e5, 0.0];

    fn buffer(bytes: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let gpu = test_gpu();
        let buffer = gpu.buffer("test", bytes, usage | wgpu::BufferUsages::COPY_DST);
        buffer.unwrap()
    }

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
            assert_eq!(tensor.read().unwrap(), []);
            assert_eq!(tensor.read_as::<f32>().unwrap(), []);
            assert_eq!(block_on(tensor.read_async()).unwrap(), []);
        }
    }

    #[test]
    fn many_ranges_are_read_at_once() {
        let gpu = test_gpu();
        let [a, b] = [1000u32, 2000].map(|start| {
            let buffer = gpu.state_buffer("test", 64).unwrap();
            let words: Vec<u32> = (start..start + 16).collect();
            gpu.queue()
                .write_buffer(&buffer, 0, bytemuck::cast_slice(&words));
            buffer
        });
        let ranges = [(&b, 8..16), (&a, 0..4), (&a, 12..12), (&b, 60..64)];
        let expected = [vec![2002, 2003], vec![1000], vec![], vec![2015]];
        assert_eq!(gpu.read_many::<u32>(&ranges).unwrap(), expected);
        let read = block_on(gpu.read_many_async::<u32>(&ranges)).unwrap();
        assert_eq!(read, expected);
        assert_eq!(gpu.read_many::<u32>(&[(&a, 4..4)]).unwrap(), [vec![]]);
        assert!(gpu.read_many::<u32>(&[]).unwrap().is_empty());
        assert_eq!(gpu.read_buffer::<u32>(&b, 4, 2).unwrap(), [2001, 2002]);
    }

    #[test]
    fn slices_are_written_and_read() {
        let gpu = test_gpu();
        let buffer = gpu.state_buffer("test", 24).unwrap();
        gpu.write_f32(buffer.slice(..), &[0.0; 6]).unwrap();
        gpu.write_f32(buffer.slice(4..12), &[1.5, -2.0]).unwrap();
        let all = [0.0, 1.5, -2.0, 0.0, 0.0, 0.0];
        assert_eq!(gpu.read_f32(buffer.slice(..)).unwrap(), all);
        assert_eq!(gpu.read_f32(buffer.slice(8..16)).unwrap(), all[2..4]);
        let read = block_on(gpu.read_f32_async(buffer.slice(4..12))).unwrap();
        assert_eq!(read, all[1..3]);
    }

    #[test]
    fn a_slice_that_does_not_fit_is_an_error_and_nothing_is_written() {
        let gpu = test_gpu();
        let buffer = gpu.state_buffer("test", 16).unwrap();
        gpu.write_f32(buffer.slice(..), &[3.0; 4]).unwrap();
        for (slice, values, message) in [
            (
                buffer.slice(2..6),
                &[1.0][..],
                "slice: offset 2 and size 4 must be multiples of 4 bytes",
            ),
            (
                buffer.slice(0..7),
                &[1.0],
                "slice: offset 0 and size 7 must be multiples of 4 bytes",
            ),
            (
                buffer.slice(..8),
                &[1.0; 3],
                "slice: the slice holds 2 f32 values, got 3; slice the buffer to their size",
            ),
        ] {
            let error = gpu.write_f32(slice, values).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
        let error = gpu.read_f32(buffer.slice(2..6)).unwrap_err();
        assert!(
            matches!(error, Error::Tensor(TensorError::Unaligned { .. })),
            "{error}"
        );
        assert_eq!(gpu.read_f32(buffer.slice(..)).unwrap(), [3.0; 4]);
    }

    #[test]
    fn a_buffer_without_the_usage_or_of_another_device_is_an_error() {
        let gpu = test_gpu();
        let other = Gpu::open().unwrap();
        let foreign = other.state_buffer("test", 16).unwrap();
        let no_source = buffer(16, wgpu::BufferUsages::STORAGE);
        for buffer in [&foreign, &no_source] {
            let error = gpu.read_f32(buffer.slice(..)).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, Error::Tensor(TensorError::Unreadable { .. })),
                "{message}"
            );
            assert!(message.starts_with("slice: "), "{message}");
        }
        let no_target = gpu.buffer("test", 16, wgpu::BufferUsages::STORAGE).unwrap();
        for buffer in [&foreign, &no_target] {
            let error = gpu.write_f32(buffer.slice(..), &[1.0; 4]).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, Error::Tensor(TensorError::Unwritable { .. })),
                "{message}"
            );
        }
        assert_eq!(gpu.tensor(SHAPE, &VALUES).unwrap().read().unwrap(), VALUES);
    }

    #[test]
    fn buffers_have_the_size_asked_for_unless_it_is_zero() {
        let sizes = [0, 4, 12, 16].map(|bytes| {
            let buffer = test_gpu().state_buffer("test", bytes);
            buffer.unwrap().size()
        });
        assert_eq!(sizes, [16, 4, 12, 16]);
        let error = test_gpu().state_buffer("test", u64::MAX - 3).unwrap_err();
        assert!(
            matches!(error, Error::Gpu(GpuError::OutOfMemory { .. })),
            "{error}"
        );
    }
}
