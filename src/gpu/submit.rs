//! What the layers give the device: memory, values and commands.

use super::buffer::{allocated, filled};
use super::guard::{alive, guarded};
use super::open::Gpu;
use crate::error::{BindError, Error, TensorError};

/// Usages of the buffers that the crate makes for tensors, parameters and statistics.
const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

impl Gpu {
    /// Records commands and submits them. Waits first if too many submissions are under way; an error then means that nothing
    /// was recorded. Returns the submission, which can be waited for.
    pub(crate) fn submit(
        &self,
        record: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<wgpu::SubmissionIndex, Error> {
        self.under_way().pace(self.device())?;
        let index = guarded(self.device(), ("commands", 0), || {
            let mut encoder = self.device().create_command_encoder(&Default::default());
            record(&mut encoder);
            self.queue().submit([encoder.finish()])
        })
        .map_err(|refusal| refusal.or(|message| Error::from(BindError::Refused { message })))?;
        self.kernels().note_submission();
        self.under_way().push(index.clone());
        Ok(index)
    }

    /// A buffer of values, parameters or statistics, all zero.
    pub(crate) fn new_buffer(
        &self,
        label: &'static str,
        bytes: u64,
    ) -> Result<wgpu::Buffer, Error> {
        Ok(allocated(self.device(), label, bytes, USAGE)?)
    }

    /// The same with these bytes, a multiple of 4.
    pub(crate) fn filled_buffer(
        &self,
        label: &'static str,
        contents: &[u8],
    ) -> Result<wgpu::Buffer, Error> {
        let bytes = contents.len() as u64;
        let buffer = self.new_buffer(label, bytes)?;
        if bytes > 0 {
            let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
            let staging = filled(self.device(), label, contents, usage)?;
            self.submit(|encoder| encoder.copy_buffer_to_buffer(&staging, 0, &buffer, 0, bytes))?;
        }
        Ok(buffer)
    }

    /// Writes bytes from `offset` on, before the work of the next submission.
    pub(crate) fn write(
        &self,
        field: &'static str,
        buffer: &wgpu::Buffer,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        // A lost device drops a write without a word.
        alive(self.device())?;
        let size = bytes.len() as u64;
        guarded(self.device(), (field, size), || {
            self.queue().write_buffer(buffer, offset, bytes);
        })
        .map_err(|refusal| {
            refusal.or(|message| Error::from(TensorError::Unwritable { field, message }))
        })?;
        self.kernels().note_upload();
        Ok(())
    }
}

/// What this file and those below it promise, on a device.
#[cfg(test)]
mod tests {
    use super::super::guard::{Refusal, scoped};
    use super::super::under_way::MOST;
    use super::*;
    use crate::error::{GpuError, PlanError};
    use crate::gpu::test_gpu;

    #[test]
    fn few_submissions_are_under_way() {
        let gpu = test_gpu();
        for _ in 0..3 * MOST {
            gpu.submit(|_| ()).unwrap();
            assert!(gpu.under_way().len() <= MOST);
        }
    }

    #[test]
    fn buffers_have_the_size_asked_for_unless_it_is_zero() {
        let sizes = [0, 4, 12, 16].map(|bytes| {
            let buffer = test_gpu().new_buffer("test", bytes);
            buffer.unwrap().size()
        });
        assert_eq!(sizes, [16, 4, 12, 16]);
        let error = test_gpu().new_buffer("test", u64::MAX - 3).unwrap_err();
        assert!(
            matches!(error, Error::Plan(PlanError::Limit { .. })),
            "{error}"
        );
    }

    #[test]
    fn a_panic_is_its_message_and_leaves_no_scope_open() {
        let device = test_gpu().device();
        let refusal = guarded(device, ("nothing", 0), || panic!("no {}", "luck")).unwrap_err();
        assert_eq!(refusal, Refusal::Invalid("no luck".to_owned()));
        assert_eq!(guarded(device, ("nothing", 0), || 3), Ok(3));
    }

    #[test]
    fn a_lost_device_is_told_from_a_wrong_call() {
        let gpu = Gpu::open().unwrap();
        let device = gpu.device();
        alive(device).unwrap();
        device.destroy();
        let lost = |refusal| matches!(refusal, Refusal::Gpu(GpuError::DeviceLost { .. }));
        assert!(lost(Refusal::Gpu(alive(device).unwrap_err())));
        assert!(lost(
            guarded(device, ("nothing", 0), || panic!()).unwrap_err()
        ));
    }

    #[test]
    fn an_error_is_told_by_its_kind() {
        let device = test_gpu().device();
        let filters = [
            wgpu::ErrorFilter::OutOfMemory,
            wgpu::ErrorFilter::Validation,
        ];
        let (_, error) = scoped(device, &filters, || {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: 16,
                // A buffer needs a usage.
                usage: wgpu::BufferUsages::empty(),
                mapped_at_creation: false,
            })
        });
        assert!(
            matches!(error, Some(wgpu::Error::Validation { .. })),
            "{error:?}"
        );
        assert!(scoped(device, &filters, || ()).1.is_none());
    }
}
