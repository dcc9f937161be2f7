//! Activations on the device, and the way back to the host.

use std::future::poll_fn;
use std::task::Poll;

use futures_intrusive::channel::shared::oneshot_channel;

use super::guard::guarded;
use super::open::Gpu;
use super::wait::{poke, wait};
use crate::dtype::{Dtype, Problem};
use crate::error::{Error, GpuError, TensorError};
use crate::shape::Shape;

/// A dense tensor on a device. Cheap to clone; clones are the same memory.
#[derive(Clone, Debug)]
pub struct Tensor {
    gpu: Gpu,
    problem: Problem,
    buffer: wgpu::Buffer,
}

impl Tensor {
    /// The extents and their order.
    pub fn shape(&self) -> Shape {
        self.problem.shape
    }

    /// The storage type of the values.
    pub fn dtype(&self) -> Dtype {
        self.problem.dtype
    }

    /// Both, as plans take them.
    pub fn problem(&self) -> Problem {
        self.problem
    }

    /// The memory: the values in memory order, padded to whole vectors of four. The padding's
    /// content is unspecified.
    pub fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// The device that the tensor lives on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The values as f32, in memory order. Waits for everything submitted so far.
    ///
    /// # Errors
    /// [`GpuError::DeviceLost`], [`GpuError::Timeout`] or [`GpuError::OutOfMemory`]; [`TensorError::Unreadable`] for a
    /// buffer of the caller's without `COPY_SRC`, or of another device.
    pub fn read(&self) -> Result<Vec<f32>, Error> {
        let words = self.gpu.read_buffer(&self.buffer, 0, self.words())?;
        Ok(self.dtype().of_words(&words, self.len()))
    }

    /// As [`read`](Self::read), without blocking: the future drives the device itself, so any executor
    /// will do.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn read_async(&self) -> Result<Vec<f32>, Error> {
        let words = self
            .gpu
            .read_buffer_async(&self.buffer, 0, self.words())
            .await?;
        Ok(self.dtype().of_words(&words, self.len()))
    }

    pub(crate) fn len(&self) -> usize {
        // Counted when the tensor was made.
        self.problem.shape.elements().unwrap_or(0)
    }

    fn words(&self) -> usize {
        self.dtype().buffer_bytes(self.len()) as usize / 4
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

const TENSOR_USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

impl Gpu {
    /// Uploads `values`, given in the memory order of `shape`, as f32.
    ///
    /// # Errors
    /// [`TensorError::Length`] if they do not fill the shape; [`GpuError::OutOfMemory`].
    pub fn tensor(&self, shape: Shape, values: &[f32]) -> Result<Tensor, Error> {
        self.tensor_as(shape, Dtype::F32, values)
    }

    /// As [`tensor`](Self::tensor), rounded to a storage type.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    pub fn tensor_as(&self, shape: Shape, dtype: Dtype, values: &[f32]) -> Result<Tensor, Error> {
        let problem = Problem::new(shape, dtype);
        if shape.elements() != Some(values.len()) {
            return Err(wrong_length("values", problem, values.len()).into());
        }
        let tensor = self.uninitialized(problem, values.len())?;
        let words = dtype.to_words(values);
        self.queue()
            .write_buffer(&tensor.buffer, 0, bytemuck::cast_slice(&words));
        Ok(tensor)
    }

    /// A tensor over a buffer of the caller's, which must hold the values padded to whole vectors of four
    /// ([`Dtype::buffer_bytes`]).
    ///
    /// # Errors
    /// [`TensorError::Length`] if the buffer is too small. Whether it is of this device is found out when
    /// it is bound or read.
    pub fn tensor_from_buffer(
        &self,
        problem: impl Into<Problem>,
        buffer: wgpu::Buffer,
    ) -> Result<Tensor, Error> {
        let problem = problem.into();
        // A tensor of this many values would not fit into any memory.
        let countable = problem
            .shape
            .elements()
            .filter(|&count| count < usize::MAX / 16);
        let needed = countable.map(|count| problem.dtype.buffer_bytes(count));
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

    /// A tensor whose values are about to be written by a kernel; `elements` is the shape's count.
    pub(crate) fn uninitialized(&self, problem: Problem, elements: usize) -> Result<Tensor, Error> {
        let bytes = problem.dtype.buffer_bytes(elements);
        let buffer = self.buffer("tensor", bytes, TENSOR_USAGE)?;
        Ok(Tensor {
            gpu: self.clone(),
            problem,
            buffer,
        })
    }

    /// A buffer of parameters or statistics.
    pub(crate) fn state_buffer(
        &self,
        label: &'static str,
        bytes: u64,
    ) -> Result<wgpu::Buffer, Error> {
        self.buffer(label, bytes, TENSOR_USAGE)
    }

    fn buffer(
        &self,
        label: &'static str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        let device = self.device();
        // A size above max_buffer_size is a validation error, one above what is free an out-of-memory one.
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            // wgpu cannot bind or slice a buffer of no bytes.
            size: bytes.max(16),
            usage,
            mapped_at_creation: false,
        });
        let errors = [validation.pop(), memory.pop()].map(pollster::block_on);
        match errors.into_iter().flatten().next() {
            None => Ok(buffer),
            Some(_) => Err(GpuError::OutOfMemory { label, bytes }.into()),
        }
    }

    /// `count` words of a buffer of this device, from byte `offset`, which is a multiple of 4; the buffer
    /// has usage `COPY_SRC`. Waits for everything submitted so far.
    pub(crate) fn read_buffer<T: bytemuck::Pod>(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        count: usize,
    ) -> Result<Vec<T>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let staging = self.stage(buffer, offset, (count * size_of::<T>()) as u64)?;
        let (sender, receiver) = oneshot_channel();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| {
            // The receiver may have been dropped with its future.
            let _ = sender.send(mapped);
        });
        wait(self.device())?;
        let mapped = pollster::block_on(receiver.receive());
        take(&staging, count, mapped)
    }

    /// As [`read_buffer`](Self::read_buffer), without blocking.
    pub(crate) async fn read_buffer_async<T: bytemuck::Pod>(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        count: usize,
    ) -> Result<Vec<T>, Error> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let staging = self.stage(buffer, offset, (count * size_of::<T>()) as u64)?;
        let (sender, receiver) = oneshot_channel();
        staging.map_async(wgpu::MapMode::Read, .., move |mapped| {
            // The receiver may have been dropped with its future.
            let _ = sender.send(mapped);
        });
        let mut received = std::pin::pin!(receiver.receive());
        let mapped = poll_fn(|context| {
            if let Err(error) = poke(self.device()) {
                return Poll::Ready(Err(error));
            }
            let polled = received.as_mut().poll(context);
            if polled.is_pending() {
                // Nobody else drives the device, so ask to be polled again.
                context.waker().wake_by_ref();
            }
            polled.map(Ok)
        })
        .await?;
        take(&staging, count, mapped)
    }

    /// Submits a copy of the bytes to a buffer that can be mapped.
    fn stage(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<wgpu::Buffer, Error> {
        let staging = self.buffer(
            "readback",
            bytes,
            wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        )?;
        let device = self.device();
        guarded(device, || {
            let mut encoder =
                device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
            self.queue().submit([encoder.finish()]);
        })
        .map_err(|message| TensorError::Unreadable { message })?;
        Ok(staging)
    }
}

/// Copies `count` words of a mapped buffer out at once, so that nothing is held across a loss of the device.
fn take<T: bytemuck::Pod>(
    staging: &wgpu::Buffer,
    count: usize,
    mapped: Option<Result<(), wgpu::BufferAsyncError>>,
) -> Result<Vec<T>, Error> {
    let lost = |message: String| GpuError::DeviceLost { message };
    mapped
        .ok_or_else(|| lost("the mapping callback was dropped".to_owned()))?
        .map_err(|error| lost(error.to_string()))?;
    let view = staging
        .slice(..(count * size_of::<T>()) as u64)
        .get_mapped_range()
        .map_err(|error| lost(error.to_string()))?;
    Ok(bytemuck::pod_collect_to_vec(&view))
}
