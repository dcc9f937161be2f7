//! Running statistics that differ from rank to rank become the same.

use super::layer::SyncBatchNorm;
use super::merge::{OfRoot, RunningSums, Weighted};
use super::message::Operation;
use crate::error::{Error, PlanError, SyncError};

impl SyncBatchNorm {
    /// Gives all ranks the running statistics of the rank `root`: after it alone has loaded a state, or has trained.
    ///
    /// # Errors
    /// [`SyncError::Setting`] if there is no such rank; [`PlanError::NoRunningStatistics`]; [`SyncError`];
    /// [`GpuError`](crate::GpuError). No rank's statistics have moved then, unless its device fails.
    pub fn broadcast_running(&mut self, root: usize) -> Result<(), Error> {
        let own = match root < self.group.size() {
            true if root == self.group.rank() => self.running().map(Some),
            true => self.tracks().map(|()| None),
            false => Err(Error::Sync(SyncError::Setting {
                field: "root",
                problem: format!("must be a rank below {}, got {root}", self.group.size()),
            })),
        };
        let header = self.header(Operation::BroadcastRunning, self.step());
        let OfRoot(words) = self.group.exchange(&header.root(root), own.map(OfRoot))?;
        // The root is a rank, and all ranks have named it.
        self.set_running(&words.unwrap_or_default())
    }

    /// Gives all ranks the mean of their running means and the mean of their running variances, each rank with the same
    /// weight, and the highest of their counters: after training with statistics of each rank's own. Not the variance of
    /// the union of what the ranks have seen, which also has the differences between the means:
    /// [`PreciseStats`](super::PreciseStats) has.
    ///
    /// # Errors
    /// As [`broadcast_running`](Self::broadcast_running).
    pub fn average_running(&mut self) -> Result<(), Error> {
        let channels = self.channels();
        let own = self.running().map(|words| {
            let (averages, counters) = words.split_at(2 * channels);
            // With the batches that it has skipped, each channel has seen the same number.
            let seen = |row: usize| counters.get(row * channels).map_or(0, |&n| u64::from(n));
            let averages: Vec<f32> = averages.iter().map(|&word| f32::from_bits(word)).collect();
            RunningSums {
                batches: seen(0) + seen(1),
                sums: Weighted::new(1.0, &averages),
            }
        });
        let header = self.header(Operation::AverageRunning, self.step());
        let all = self.group.exchange(&header, own)?;
        let means = all.sums.means().unwrap_or_default();
        self.set_averages(&means, all.batches)
    }

    fn tracks(&self) -> Result<(), Error> {
        match self.config().track_running_stats {
            true => Ok(()),
            false => Err(Error::Plan(PlanError::NoRunningStatistics)),
        }
    }

    /// The running statistics as words. Waits for the device.
    fn running(&self) -> Result<Vec<u32>, Error> {
        self.tracks()?;
        let words = 4 * self.channels();
        let buffer = self.layer.running_buffer();
        let buffer = buffer.ok_or(PlanError::NoRunningStatistics)?;
        let words: Vec<u32> = self.gpu().read_buffer(buffer, 0, words)?;
        // The skipped batches of before will be gone.
        let skipped = words.get(3 * self.channels()..).unwrap_or_default();
        self.layer.tell_of_skipped(skipped)?;
        Ok(words)
    }

    /// Sets the rows [running_mean: C] [running_var: C] and the counter, of which no batch was skipped.
    pub(super) fn set_averages(&mut self, averages: &[f32], batches: u64) -> Result<(), Error> {
        // The device's counter stays at its largest value.
        let batches = u32::try_from(batches).unwrap_or(u32::MAX);
        let channels = self.channels();
        let counters =
            std::iter::repeat_n(batches, channels).chain(std::iter::repeat_n(0, channels));
        let averages = averages.iter().map(|value| value.to_bits());
        let words: Vec<u32> = averages.chain(counters).collect();
        self.set_running(&words)
    }

    fn set_running(&mut self, words: &[u32]) -> Result<(), Error> {
        if let Some(running) = self.layer.running_buffer() {
            let bytes = bytemuck::cast_slice(words);
            self.gpu().write("running", running, 0, bytes)?;
            let skipped = words.get(3 * self.channels()..).unwrap_or_default();
            self.layer.skipped_are_known(skipped);
        }
        self.next_step();
        Ok(())
    }
}
