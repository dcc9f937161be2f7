//! The submissions of a device that are under way, which are few at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::wait::wait_for;
use crate::error::GpuError;

/// The most submissions under way. Until a submission is done, wgpu keeps its buffers, also those that the caller has
/// dropped: without a bound, a loop that reads nothing would hold the results of all its steps. Eight keep a device busy.
pub const MOST: usize = 8;

/// The submissions that may be under way, the oldest first.
#[derive(Debug, Default)]
pub struct UnderWay(Mutex<VecDeque<wgpu::SubmissionIndex>>);

impl UnderWay {
    /// Waits for the oldest submission if there are as many as there may be.
    pub fn pace(&self, device: &wgpu::Device) -> Result<(), GpuError> {
        let oldest = {
            let mut list = self.list();
            if list.len() < MOST {
                return Ok(());
            }
            list.pop_front()
        };
        wait_for(device, oldest)
    }

    pub fn push(&self, index: wgpu::SubmissionIndex) {
        self.list().push_back(index);
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.list().len()
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<wgpu::SubmissionIndex>> {
        // The list is consistent between any two statements, also for a thread that panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
