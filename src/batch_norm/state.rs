//! The layer's state on the host.

use super::layer::BatchNorm;
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
    /// `C` averages of unbiased batch variances.
    pub running_var: Option<Vec<f32>>,
    /// How many training batches have moved the averages.
    pub num_batches_tracked: Option<u64>,
}

impl BatchNorm {
    /// Reads parameters and running statistics. Waits once, for all work submitted so far.
    ///
    /// # Errors
    /// [`GpuError`](crate::GpuError) if the device fails.
    pub fn state(&self) -> Result<State, Error> {
        let ranges = self.state_ranges();
        Ok(self.state_of(self.gpu().read_many(&ranges)?))
    }

    /// [`state`](Self::state) as a future.
    ///
    /// # Errors
    /// As [`state`](Self::state).
    pub async fn state_async(&self) -> Result<State, Error> {
        let ranges = self.state_ranges();
        Ok(self.state_of(self.gpu().read_many_async(&ranges).await?))
    }

    fn state_ranges(&self) -> Vec<(&wgpu::Buffer, std::ops::Range<u64>)> {
        let affine = self.config().affine_rows();
        let rows = [affine.weight, affine.bias].into_iter().flatten();
        let affine = self.affine_buffer().into_iter();
        let mut ranges: Vec<_> = affine
            .flat_map(|b| rows.clone().map(move |r| (b, r)))
            .collect();
        if let Some((buffer, rows)) = self.running_buffer().zip(self.config().running_rows()) {
            // All channels have the same counter.
            let counter = rows.num_batches_tracked.start;
            let rows = [rows.mean, rows.var, counter..counter + 4];
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
        State {
            weight: row(config.weight),
            bias: row(config.bias),
            running_mean: row(track),
            running_var: row(track),
            num_batches_tracked: rows
                .next()
                .and_then(|words| words.first().map(|&n| n.into())),
        }
    }

    /// Replaces parameters and running statistics: all of them, or on error none.
    ///
    /// # Errors
    /// [`TensorError::State`] for a value that the layer does not have, lacks, or has in another length, for a running mean
    /// that is not finite, and for a running variance that is negative or NaN. torch takes those, and gives NaN from then on.
    /// [`GpuError::DeviceLost`](crate::GpuError::DeviceLost).
    pub fn load_state(&mut self, state: &State) -> Result<(), Error> {
        let config = *self.config();
        let (channels, track) = (config.num_features, config.track_running_stats);
        let check = |field, value: &Option<Vec<f32>>, wanted: bool| {
            check_values(
                field,
                value.as_ref().map(Vec::len),
                wanted.then_some(channels),
            )
        };
        check("weight", &state.weight, config.weight)?;
        check("bias", &state.bias, config.bias)?;
        check("running_mean", &state.running_mean, track)?;
        check("running_var", &state.running_var, track)?;
        check_statistics(
            "running_mean",
            &state.running_mean,
            "a finite number",
            |v| v.is_finite(),
        )?;
        check_statistics("running_var", &state.running_var, "0 or more", |v| v >= 0.0)?;
        let counted = state.num_batches_tracked.map(|_| channels);
        check_values("num_batches_tracked", counted, track.then_some(channels))?;
        let batches = u32::try_from(state.num_batches_tracked.unwrap_or(0)).map_err(|_| {
            TensorError::State {
                field: "num_batches_tracked",
                problem: "is above 4294967295, the most that the device counts".to_owned(),
            }
        })?;
        let bits = |rows: [&Option<Vec<f32>>; 2]| -> Vec<u32> {
            let values = rows.into_iter().flatten().flatten();
            values.map(|value| value.to_bits()).collect()
        };
        if let Some(affine) = self.affine_buffer() {
            let rows = bits([&state.weight, &state.bias]);
            self.gpu()
                .write("affine", affine, 0, bytemuck::cast_slice(&rows))?;
        }
        if let Some(running) = self.running_buffer() {
            let mut rows = bits([&state.running_mean, &state.running_var]);
            rows.extend(std::iter::repeat_n(batches, channels));
            self.gpu()
                .write("running", running, 0, bytemuck::cast_slice(&rows))?;
        }
        Ok(())
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
            .write("running", running, 0, bytemuck::cast_slice(&rows))
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
