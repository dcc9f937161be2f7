//! Transfers between host and device.

use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytemuck::Pod;

use super::buffer::allocated;
use super::guard::guarded;
use super::open::Gpu;
use super::wait::{wait, wait_async, wait_for};
use crate::error::{BindError, Error, GpuError, TensorError};

/// The longest time that another thread needs for wgpu's call to a mapping's callback.
const LONGEST_CALL: Duration = Duration::from_secs(10);

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

    /// [`read_f32`](Self::read_f32) as a future, which runs on any executor: a thread of its own waits for the device.
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
        let bytes = bytemuck::cast_slice(values);
        self.write("slice", slice.buffer(), range.start, bytes)
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

    /// Copies the ranges to the host one after another and converts their bytes. Blocks until all work submitted so
    /// far is done.
    pub(super) fn download<R>(
        &self,
        field: &'static str,
        ranges: &[(&wgpu::Buffer, Range<u64>)],
        convert: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        let Some(transfer) = self.transfer(field, ranges)? else {
            return Ok(convert(&[]));
        };
        wait(self.device())?;
        transfer.finish(convert)
    }

    /// [`download`](Self::download) as a future.
    pub(super) async fn download_async<R>(
        &self,
        field: &'static str,
        ranges: &[(&wgpu::Buffer, Range<u64>)],
        convert: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, Error> {
        let Some(transfer) = self.transfer(field, ranges)? else {
            return Ok(convert(&[]));
        };
        wait_async(self.device()).await?;
        transfer.finish(convert)
    }

    /// Records commands, and the copy of a range of a buffer to the host, in one submission, as
    /// [`submit`](Self::submit). The host can do other work before it waits for the values.
    pub(crate) fn submit_and_read(
        &self,
        record: impl FnOnce(&mut wgpu::CommandEncoder),
        buffer: &wgpu::Buffer,
        range: Range<u64>,
    ) -> Result<Reading, Error> {
        let usage = wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ;
        let staging = allocated(self.device(), "readback", size(&range), usage)?;
        let submission = self.submit(|encoder| {
            record(encoder);
            encoder.copy_buffer_to_buffer(buffer, range.start, &staging, 0, size(&range));
        })?;
        let (sender, mapped) = channel();
        guarded(self.device(), ("readback", size(&range)), || {
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                // Values that nobody waits for any more have no receiver.
                let _ = sender.send(result);
            });
        })
        .map_err(|refusal| refusal.or(|message| Error::from(BindError::Refused { message })))?;
        Ok(Reading {
            gpu: self.clone(),
            submission,
            transfer: Mutex::new(Transfer { staging, mapped }),
        })
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
        let staging = allocated(self.device(), "readback", bytes, usage)?;
        let (sender, mapped) = channel();
        guarded(self.device(), ("readback", bytes), || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            let mut end = 0;
            for (buffer, range) in ranges.iter().filter(|(_, range)| size(range) > 0) {
                encoder.copy_buffer_to_buffer(buffer, range.start, &staging, end, size(range));
                end += size(range);
            }
            self.queue().submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., move |result| {
                // A future that was dropped has dropped the receiver.
                let _ = sender.send(result);
            });
        })
        .map_err(|refusal| {
            refusal.or(|message| Error::from(TensorError::Unreadable { field, message }))
        })?;
        Ok(Some(Transfer { staging, mapped }))
    }
}

/// Values on their way to the host, behind the work of one submission.
#[derive(Debug)]
pub struct Reading {
    gpu: Gpu,
    submission: wgpu::SubmissionIndex,
    /// In a mutex for nothing but that threads may share it.
    transfer: Mutex<Transfer>,
}

impl Reading {
    /// The values. Blocks until the submission is done; later ones may still be under way.
    pub(crate) fn finish<T: Pod>(self) -> Result<Vec<T>, Error> {
        wait_for(self.gpu.device(), Some(self.submission))?;
        let transfer = self.transfer.into_inner();
        let transfer = transfer.unwrap_or_else(PoisonError::into_inner);
        transfer.finish(bytemuck::pod_collect_to_vec)
    }
}

/// Bytes on their way to the host.
#[derive(Debug)]
struct Transfer {
    staging: wgpu::Buffer,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Transfer {
    /// Converts the bytes, after a wait in which they were mapped.
    fn finish<R>(&self, convert: impl FnOnce(&[u8]) -> R) -> Result<R, Error> {
        let lost = |message: String| GpuError::DeviceLost { message };
        // It has been mapped. But the call that says so may be one of another thread that waits for the device, which has
        // still to make it.
        self.mapped
            .recv_timeout(LONGEST_CALL)
            .map_err(|error| lost(format!("the mapping was dropped: {error}")))?
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
    use pollster::block_on;

    #[test]
    fn many_ranges_are_read_at_once() {
        let gpu = test_gpu();
        let [a, b] = [1000u32, 2000].map(|start| {
            let buffer = gpu.new_buffer("test", 64).unwrap();
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
        assert_eq!(
            gpu.read_many::<u32>(&[(&a, 4..4)]).unwrap(),
            [vec![0u32; 0]]
        );
        assert!(gpu.read_many::<u32>(&[]).unwrap().is_empty());
        assert_eq!(gpu.read_buffer::<u32>(&b, 4, 2).unwrap(), [2001, 2002]);
    }

    #[test]
    fn values_are_read_behind_the_work_of_their_submission() {
        let gpu = test_gpu();
        let [from, to] = [[1u32, 2, 3, 4], [0; 4]].map(|words| {
            gpu.filled_buffer("test", bytemuck::cast_slice(&words))
                .unwrap()
        });
        let copy = |encoder: &mut wgpu::CommandEncoder| {
            encoder.copy_buffer_to_buffer(&from, 0, &to, 0, 16);
        };
        let reading = gpu.submit_and_read(copy, &to, 4..16).unwrap();
        // Work that is recorded meanwhile comes after it.
        gpu.write("test", &to, 0, &[0xff; 16]).unwrap();
        let later = gpu.submit_and_read(|_| (), &to, 0..4).unwrap();
        assert_eq!(reading.finish::<u32>().unwrap(), [2, 3, 4]);
        assert_eq!(later.finish::<u32>().unwrap(), [u32::MAX]);
        // Nobody needs to wait for it.
        drop(gpu.submit_and_read(copy, &to, 0..16).unwrap());
    }

    /// Each of them may be told by the wait of another one that its buffer is mapped.
    #[test]
    fn threads_read_from_one_device() {
        let gpu = test_gpu();
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                scope.spawn(move || {
                    for round in 0..300 {
                        let words = [thread, round];
                        let bytes = bytemuck::cast_slice(&words);
                        let buffer = gpu.filled_buffer("test", bytes).unwrap();
                        assert_eq!(gpu.read_buffer::<u32>(&buffer, 0, 2).unwrap(), words);
                    }
                });
            }
        });
    }

    #[test]
    fn slices_are_written_and_read() {
        let gpu = test_gpu();
        let buffer = gpu.new_buffer("test", 24).unwrap();
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
        let buffer = gpu.new_buffer("test", 16).unwrap();
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
        let foreign = other.new_buffer("test", 16).unwrap();
        let made = |usage| allocated(gpu.device(), "test", 16, usage).unwrap();
        let no_source = made(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST);
        for buffer in [&foreign, &no_source] {
            let error = gpu.read_f32(buffer.slice(..)).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, Error::Tensor(TensorError::Unreadable { .. })),
                "{message}"
            );
            assert!(message.starts_with("slice: "), "{message}");
        }
        let no_target = made(wgpu::BufferUsages::STORAGE);
        for buffer in [&foreign, &no_target] {
            let error = gpu.write_f32(buffer.slice(..), &[1.0; 4]).unwrap_err();
            let message = error.to_string();
            assert!(
                matches!(error, Error::Tensor(TensorError::Unwritable { .. })),
                "{message}"
            );
        }
        let shape = crate::Shape::nc(2, 1);
        let tensor = gpu.tensor(shape, &[1.0, 2.0]).unwrap();
        assert_eq!(tensor.read().unwrap(), [1.0, 2.0]);
    }

    /// An executor has nothing to do while a future waits.
    #[test]
    fn a_pending_read_wakes_its_executor_once() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        use std::task::{Context, Poll, Wake, Waker};

        struct Wakes(AtomicUsize, std::thread::Thread);
        impl Wake for Wakes {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
                self.1.unpark();
            }
        }
        let gpu = test_gpu();
        let buffer = gpu.filled_buffer("test", &[7; 64]).unwrap();
        let wakes = Arc::new(Wakes(AtomicUsize::new(0), std::thread::current()));
        let waker = Waker::from(wakes.clone());
        let mut read = std::pin::pin!(gpu.read_f32_async(buffer.slice(..)));
        let values = loop {
            match read.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(values) => break values.unwrap(),
                Poll::Pending => std::thread::park(),
            }
        };
        assert_eq!(values, [f32::from_ne_bytes([7; 4]); 16]);
        assert!(wakes.0.load(Ordering::SeqCst) <= 1);
    }
}
