//! The layer's state on the host.

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::layer::BatchNorm;
use super::policy::NonFinite;
use crate::error::{Error, TensorError};
use crate::norm::layer::check_values;

/// The layer's state on the host, under torch's names. A value that the configuration leaves out is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct State {
    /// `C` factors of the output.
    pub weight: Option<Vec<f32>>,
    /// `C` values added to the output.
    pub bias: Option<Vec<f32>>,
    /// `C` averages of batch means.
    pub running_mean: Option<Vec<f32>>,
    /// `C` averages of batch variances.
    pub running_var: Option<Vec<f32>>,
    /// How many training batches there were, those included that a channel skipped.
    pub num_batches_tracked: Option<u64>,
    /// For each channel the number of batches that were not finite and have not moved its averages, under a
    /// [`NonFinite`] other than `Propagate`. `None` if there are none.
    pub num_batches_skipped: Option<Vec<u32>>,
}

impl BatchNorm {
    /// Reads parameters and running statistics. Waits once, for all work submitted so far.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails. [`TensorError::NonFinite`] if there were batches that were not finite
    /// since the last such error, and [`BatchNormConfig::non_finite`](super::BatchNormConfig::non_finite) is `Error`: the next
    /// call returns the state.
    pub fn state(&self) -> Result<State, Error> {
        let state = self.read_state()?;
        self.tell_of_skipped(state.num_batches_skipped.as_deref().unwrap_or_default())?;
        Ok(state)
    }

    /// The state, whatever the policy says of it.
    pub(crate) fn read_state(&self) -> Result<State, Error> {
        let ranges = self.state_ranges();
        Ok(self.state_of(self.gpu().read_many(&ranges)?))
    }

    /// Returns an error if channels have skipped batches of which none has told.
    pub(crate) fn tell_of_skipped(&self, skipped: &[u32]) -> Result<(), TensorError> {
        let total = skipped.iter().copied().map(u64::from).sum();
        let known = self.skipped_told.swap(total, Ordering::Relaxed);
        let channel = skipped.iter().position(|&batches| batches > 0);
        match (channel, self.config().non_finite) {
            (Some(channel), NonFinite::Error) if total > known => {
                let batches = skipped[channel];
                Err(TensorError::NonFinite { channel, batches })
            }
            _ => Ok(()),
        }
    }

    /// The device counts these skipped batches from now on, and they are no news.
    pub(crate) fn skipped_are_known(&self, skipped: &[u32]) {
        let total = skipped.iter().copied().map(u64::from).sum();
        self.skipped_told.store(total, Ordering::Relaxed);
    }

    /// [`state`](Self::state) as a future.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub async fn state_async(&self) -> Result<State, Error> {
        let ranges = self.state_ranges();
        let state = self.state_of(self.gpu().read_many_async(&ranges).await?);
        self.tell_of_skipped(state.num_batches_skipped.as_deref().unwrap_or_default())?;
        Ok(state)
    }

    fn state_ranges(&self) -> Vec<(&wgpu::Buffer, Range<u64>)> {
        let affine = self.config().affine_rows();
        let rows = [affine.weight, affine.bias].into_iter().flatten();
        let affine = self.affine_buffer().into_iter();
        let mut ranges: Vec<_> = affine
            .flat_map(|b| rows.clone().map(move |r| (b, r)))
            .collect();
        if let Some((buffer, rows)) = self.running_buffer().zip(self.config().running_rows()) {
            // The batches that moved a channel and those that it skipped are the same number in each.
            let counter = rows.num_batches_tracked.start;
            let counters = [counter..counter + 4, rows.num_batches_skipped];
            let rows = [rows.mean, rows.var].into_iter().chain(counters);
            ranges.extend(rows.map(|row| (buffer, row)));
        }
        ranges
    }

    /// The state in words, row by row as `state_ranges` lists them.
    fn state_of(&self, rows: Vec<Vec<u32>>) -> State {
        let mut rows = rows.into_iter();
        let config = *self.config();
        let mut row = |present: bool| {
            let words = if present { rows.next() } else { None };
            words.map(|words| words.into_iter().map(f32::from_bits).collect())
        };
        let track = config.track_running_stats;
        let mut state = State {
            weight: row(config.weight),
            bias: row(config.bias),
            running_mean: row(track),
            running_var: row(track),
            ..State::default()
        };
        if let Some((moved, skipped)) = rows.next().zip(rows.next()) {
            let first = |row: &[u32]| row.first().map_or(0, |&n| u64::from(n));
            // Counters stay at their largest value.
            let batches = (first(&moved) + first(&skipped)).min(u32::MAX.into());
            state.num_batches_tracked = Some(batches);
            let any = skipped.iter().any(|&batches| batches > 0);
            state.num_batches_skipped = any.then_some(skipped);
        }
        state
    }

    /// Replaces parameters and running statistics: all of them, or on error none.
    ///
    /// # Errors
    /// [`TensorError::State`] for a value that the layer does not have, lacks, or has in another length, for a running mean
    /// that is not finite, and for a running variance that is negative or NaN. torch takes those, and gives NaN from then on.
    /// [`GpuError::DeviceLost`](crate::GpuError::DeviceLost).
    pub fn load_state(&mut self, state: &State) -> Result<(), Error> {
        let config = *self.config();
        let track = config.track_running_stats;
        for (field, row, wanted) in [
            ("weight", &state.weight, config.weight),
            ("bias", &state.bias, config.bias),
            ("running_mean", &state.running_mean, track),
            ("running_var", &state.running_var, track),
        ] {
            let expected = wanted.then_some(config.num_features);
            check_values(field, row.as_ref().map(Vec::len), expected)?;
        }
        check_statistics(
            "running_mean",
            &state.running_mean,
            "a finite number",
            |v| v.is_finite(),
        )?;
        check_statistics("running_var", &state.running_var, "0 or more", |v| v >= 0.0)?;
        let given = state.num_batches_tracked.map(|_| 1);
        check_values("num_batches_tracked", given, track.then_some(1))?;
        self.write_rows(state)
    }

    /// Writes the rows that a state has, of those that the layer has. Their values are taken as they are.
    pub(crate) fn write_rows(&mut self, state: &State) -> Result<(), Error> {
        let config = *self.config();
        let counters = match state.num_batches_tracked {
            Some(_) => Some(state.counters(config.num_features, config.track_running_stats)?),
            None => None,
        };
        let affine = config.affine_rows();
        for (row, values) in [(affine.weight, &state.weight), (affine.bias, &state.bias)] {
            self.write_row("affine", self.affine_buffer(), row, values.as_deref())?;
        }
        if let Some(rows) = config.running_rows() {
            let running = self.running_buffer();
            let values = [&state.running_mean, &state.running_var];
            for (row, values) in [rows.mean, rows.var].into_iter().zip(values) {
                self.write_row("running", running, Some(row), values.as_deref())?;
            }
            let both = rows.num_batches_tracked.start..rows.num_batches_skipped.end;
            self.write_row("running", running, Some(both), counters.as_deref())?;
        }
        if counters.is_some() {
            self.skipped_are_known(state.num_batches_skipped.as_deref().unwrap_or_default());
        }
        Ok(())
    }

    fn write_row<T: bytemuck::NoUninit>(
        &self,
        field: &'static str,
        buffer: Option<&wgpu::Buffer>,
        row: Option<Range<u64>>,
        values: Option<&[T]>,
    ) -> Result<(), Error> {
        match (buffer, row, values) {
            (Some(buffer), Some(row), Some(values)) => {
                let bytes = bytemuck::cast_slice(values);
                self.gpu().write(field, buffer, row.start, bytes)
            }
            _ => Ok(()),
        }
    }

    /// Sets the running statistics back to those of a new layer.
    ///
    /// # Errors
    /// [`GpuError::DeviceLost`](crate::GpuError::DeviceLost).
    pub fn reset_running_stats(&mut self) -> Result<(), Error> {
        let Some(running) = self.running_buffer() else {
            return Ok(());
        };
        let rows = self.config().initial_running();
        self.gpu()
            .write("running", running, 0, bytemuck::cast_slice(&rows))?;
        self.skipped_are_known(&[]);
        Ok(())
    }
}

impl State {
    /// The two rows of counters: the batches that moved each channel, and those that it skipped.
    fn counters(&self, channels: usize, track: bool) -> Result<Vec<u32>, TensorError> {
        let field = "num_batches_tracked";
        let batches = u32::try_from(self.num_batches_tracked.unwrap_or(0)).map_err(|_| {
            let problem = "is above 4294967295, the most that the device counts".to_owned();
            TensorError::State { field, problem }
        })?;
        let Some(skipped) = &self.num_batches_skipped else {
            let moved = std::iter::repeat_n(batches, channels);
            return Ok(moved.chain(std::iter::repeat_n(0, channels)).collect());
        };
        let field = "num_batches_skipped";
        check_values(field, Some(skipped.len()), track.then_some(channels))?;
        let moved = skipped.iter().enumerate().map(|(channel, &skipped)| {
            batches.checked_sub(skipped).ok_or_else(|| {
                let problem = format!("{skipped} of {batches} batches in channel {channel}");
                TensorError::State { field, problem }
            })
        });
        let mut counters = moved.collect::<Result<Vec<_>, _>>()?;
        counters.extend(skipped);
        Ok(counters)
    }
}

/// Are all values of a running statistic possible ones?
fn check_statistics(
    field: &'static str,
    values: &Option<Vec<f32>>,
    needed: &str,
    possible: impl Fn(f32) -> bool,
) -> Result<(), TensorError> {
    let mut channels = values.iter().flatten().enumerate();
    match channels.find(|&(_, &value)| !possible(value)) {
        None => Ok(()),
        Some((channel, value)) => Err(TensorError::State {
            field,
            problem: format!("must be {needed}, got {value} in channel {channel}"),
        }),
    }
}
