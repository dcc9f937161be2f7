//! Waiting for the device: every call of `poll` is here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::guard::message_of;
use crate::error::GpuError;

/// The longest wait for the work submitted so far. A device that takes longer is taken to hang.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Blocks until all work submitted so far is done and its callbacks have run.
pub fn wait(device: &wgpu::Device) -> Result<(), GpuError> {
    poll(
        device,
        wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(TIMEOUT),
        },
    )
}

/// Runs the callbacks of finished work, without blocking.
pub fn poke(device: &wgpu::Device) -> Result<(), GpuError> {
    poll(device, wgpu::PollType::Poll)
}

fn poll(device: &wgpu::Device, kind: wgpu::PollType) -> Result<(), GpuError> {
    // On a lost device, wgpu 30's poll panics instead of returning an error.
    match catch_unwind(AssertUnwindSafe(|| device.poll(kind))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(wgpu::PollError::Timeout)) => Err(GpuError::Timeout {
            seconds: TIMEOUT.as_secs(),
        }),
        Ok(Err(error)) => Err(GpuError::DeviceLost {
            message: error.to_string(),
        }),
        Err(panic) => Err(GpuError::DeviceLost {
            message: message_of(panic.as_ref()),
        }),
    }
}
