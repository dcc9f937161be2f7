//! Averaged weights.

use super::state::State;
use crate::error::TensorError;
use crate::norm::layer::check_values;

/// What an average of weights does with the running statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AveragedStatistics {
    /// Averages them as the parameters (timm's `ModelEma`, torch's `AveragedModel(use_buffers=True)`). They are then neither
    /// those of the averaged weights nor of any others, but near both.
    #[default]
    Average,
    /// Takes those of the newest state (torch's `AveragedModel`): a guess at those of the averaged weights, to be replaced by
    /// [`precise_statistics`](super::BatchNorm::precise_statistics) of them.
    Newest,
}

/// An exponential moving average of a layer's states, as evaluation with averaged weights needs it: `decay * average +
/// (1 - decay) * state`. Computed on the host in f64, so that small steps are not rounded away.
///
/// Counters are those of the newest state, never averages.
///
/// ```
/// use wgpu_norm::batch_norm::{State, StateAverage};
/// let mut state = State::default();
/// state.weight = Some(vec![1.0, 2.0]);
/// let mut average = StateAverage::new(0.75, &state);
/// state.weight = Some(vec![5.0, 2.0]);
/// average.add(&state)?; // from bn.state(), after a step
/// assert_eq!(average.state().weight, Some(vec![2.0, 2.0])); // for load_state of the layer that evaluates
/// # Ok::<(), wgpu_norm::TensorError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StateAverage {
    decay: f64,
    statistics: AveragedStatistics,
    /// Weight, bias, running mean and running variance.
    values: [Option<Vec<f64>>; 4],
    newest: State,
}

fn rows(state: &State) -> [(&'static str, &Option<Vec<f32>>); 4] {
    [
        ("weight", &state.weight),
        ("bias", &state.bias),
        ("running_mean", &state.running_mean),
        ("running_var", &state.running_var),
    ]
}

impl StateAverage {
    /// An average that begins with a state. `decay` is the share that the average keeps at each step, from 0 to 1; what is
    /// outside is taken for the nearer of them, and NaN for 1.
    pub fn new(decay: f32, state: &State) -> Self {
        let widen = |row: &Option<Vec<f32>>| -> Option<Vec<f64>> {
            row.as_ref()
                .map(|row| row.iter().map(|&v| v.into()).collect())
        };
        Self {
            decay: match decay.is_nan() {
                true => 1.0,
                false => f64::from(decay).clamp(0.0, 1.0),
            },
            statistics: AveragedStatistics::default(),
            values: rows(state).map(|(_, row)| widen(row)),
            newest: state.clone(),
        }
    }

    /// Sets what becomes of running statistics. Default [`AveragedStatistics::Average`].
    pub fn statistics(mut self, statistics: AveragedStatistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// Adds a state.
    ///
    /// # Errors
    /// [`TensorError::State`] for a state of another layer: with a value more or less, or of another length. The average stays
    /// as it is then.
    pub fn add(&mut self, state: &State) -> Result<(), TensorError> {
        for ((field, new), old) in rows(state).into_iter().zip(&self.values) {
            check_values(
                field,
                new.as_ref().map(Vec::len),
                old.as_ref().map(Vec::len),
            )?;
        }
        for ((_, new), old) in rows(state).into_iter().zip(&mut self.values) {
            let pairs = old.iter_mut().flatten().zip(new.iter().flatten());
            for (old, &new) in pairs {
                // Zero times infinity is no number.
                *old = match self.decay {
                    0.0 => new.into(),
                    1.0 => *old,
                    decay => decay * *old + (1.0 - decay) * f64::from(new),
                };
            }
        }
        self.newest = state.clone();
        Ok(())
    }

    /// The average.
    pub fn state(&self) -> State {
        let narrow = |row: &Option<Vec<f64>>| -> Option<Vec<f32>> {
            row.as_ref()
                .map(|row| row.iter().map(|&v| v as f32).collect())
        };
        let [weight, bias, mean, var] = &self.values;
        let mut state = State {
            weight: narrow(weight),
            bias: narrow(bias),
            ..self.newest.clone()
        };
        if self.statistics == AveragedStatistics::Average {
            state.running_mean = narrow(mean);
            state.running_var = narrow(var);
        }
        state
    }
}
