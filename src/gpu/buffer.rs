//! Buffers, with typed errors.

use super::guard::{Refusal, alive, guarded};
use crate::error::{GpuError, PlanError};

/// A buffer of `bytes`, or of 16 if that is zero, because wgpu can neither bind nor slice an empty buffer.
pub fn allocated(
    device: &wgpu::Device,
    label: &'static str,
    bytes: u64,
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer, PlanError> {
    create(device, label, bytes, usage, &[])
}

/// A buffer with these bytes, a multiple of 4; 16 bytes if there are none. Unless `usage` is `MAP_WRITE`, they reach the
/// device with the next submission, through memory of wgpu's own. If that runs out, wgpu gives up the device: large contents
/// go by `Gpu::filled_buffer`.
pub fn filled(
    device: &wgpu::Device,
    label: &'static str,
    contents: &[u8],
    usage: wgpu::BufferUsages,
) -> Result<wgpu::Buffer, PlanError> {
    create(device, label, contents.len() as u64, usage, contents)
}

/// A buffer of `bytes`, which are the contents if there are any.
fn create(
    device: &wgpu::Device,
    label: &'static str,
    bytes: u64,
    usage: wgpu::BufferUsages,
    contents: &[u8],
) -> Result<wgpu::Buffer, PlanError> {
    let available = device.limits().max_buffer_size;
    if bytes > available {
        return Err(PlanError::Limit {
            limit: "max_buffer_size",
            needed: bytes,
            available,
        });
    }
    let made = guarded(device, (label, bytes), || {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: if bytes == 0 { 16 } else { bytes },
            usage,
            mapped_at_creation: !contents.is_empty(),
        });
        if !contents.is_empty() {
            // There is no range if the device is lost or out of memory.
            let mut range = buffer.get_mapped_range_mut(..).ok()?;
            range.slice(..).copy_from_slice(contents);
            drop(range);
            buffer.unmap();
        }
        Some(buffer)
    });
    match made {
        Ok(Some(buffer)) => Ok(buffer),
        Err(Refusal::Gpu(error)) => Err(error.into()),
        Ok(None) | Err(Refusal::Invalid(_)) => {
            alive(device)?;
            Err(GpuError::OutOfMemory { label, bytes }.into())
        }
    }
}
