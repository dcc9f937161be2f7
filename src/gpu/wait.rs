//! Waiting for the device: every call of `poll` is here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use futures_intrusive::channel::shared::oneshot_channel;

use super::guard::message_of;
use crate::error::GpuError;

/// The longest wait for work that was submitted. A device that takes longer is taken to hang.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Blocks until all work submitted so far is done and its callbacks have run.
pub fn wait(device: &wgpu::Device) -> Result<(), GpuError> {
    wait_for(device, None)
}

/// Blocks until a submission and all before it are done and their callbacks have run. Without an index, until all are.
pub fn wait_for(
    device: &wgpu::Device,
    submission_index: Option<wgpu::SubmissionIndex>,
) -> Result<(), GpuError> {
    let kind = wgpu::PollType::Wait {
        submission_index,
        timeout: Some(TIMEOUT),
    };
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

/// [`wait`] as a future. A thread waits for it, so that the executor has nothing to do meanwhile.
pub async fn wait_async(device: &wgpu::Device) -> Result<(), GpuError> {
    let (sender, done) = oneshot_channel();
    let waiting = device.clone();
    let thread = thread::Builder::new().name("wgpu_norm wait".to_owned());
    let spawned = thread.spawn(move || {
        // A future that was dropped has dropped the receiver.
        let _ = sender.send(wait(&waiting));
    });
    match spawned {
        Ok(_) => done.receive().await.unwrap_or_else(|| wait(device)),
        // The system has no thread to spare.
        Err(_) => wait(device),
    }
}
