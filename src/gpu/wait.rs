//! The one place that waits for the device.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::guard::message_of;
use crate::error::GpuError;

/// No step of training takes this long; a device that does has hung.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until everything submitted so far is done.
pub fn wait(device: &wgpu::Device) -> Result<(), GpuError> {
    poll(
        device,
        wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(PATIENCE),
        },
    )
}

/// Lets callbacks run that are due, without waiting.
pub fn poke(device: &wgpu::Device) -> Result<(), GpuError> {
    poll(device, wgpu::PollType::Poll)
}

fn poll(device: &wgpu::Device, kind: wgpu::PollType) -> Result<(), GpuError> {
    // A lost device makes wgpu 30's poll panic rather than return an error.
    match catch_unwind(AssertUnwindSafe(|| device.poll(kind))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(wgpu::PollError::Timeout)) => Err(GpuError::Timeout {
            seconds: PATIENCE.as_secs(),
        }),
        Ok(Err(error)) => Err(GpuError::DeviceLost {
            message: error.to_string(),
        }),
        Err(panic) => Err(GpuError::DeviceLost {
            message: message_of(panic.as_ref()),
        }),
    }
}
