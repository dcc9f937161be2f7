//! What a BatchNorm layer is, in torch's words.

use super::policy::{Momentum, NonFinite, RunningVariance, SingleValue};
use crate::error::PlanError;
use crate::norm::options::Epilogue;
use crate::norm::rows::{AffineRows, MomentRows, RunningRows, SavedRows, SumRows};
use crate::shape::Shape;

/// The configuration of a BatchNorm layer, with torch's names and defaults.
///
/// ```
/// use wgpu_norm::BatchNormConfig;
/// let config = BatchNormConfig::new(64).eps(1e-3).momentum(0.01).bias(false);
/// assert_eq!(config.num_features, 64);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct BatchNormConfig {
    /// `C`, the number of channels.
    pub num_features: usize,
    /// Added to the variance, inside the root. Default 1e-5.
    pub eps: f32,
    /// How much of a new batch goes into the running statistics. Default `Torch(0.1)`.
    pub momentum: Momentum,
    /// Whether the output is scaled by a learned weight. Default true.
    pub weight: bool,
    /// Whether a learned bias is added. Default true.
    pub bias: bool,
    /// Whether running statistics are kept. Without them, `eval` normalizes by the batch's own. Default true.
    pub track_running_stats: bool,
    /// Which variance goes into the running one. Default unbiased.
    pub running_variance: RunningVariance,
    /// What training does with one value a channel. Default an error.
    pub single_value: SingleValue,
    /// What a batch that is not finite does to the running statistics. Default it moves them.
    pub non_finite: NonFinite,
    /// What follows the normalization in the same pass. Default nothing.
    pub epilogue: Epilogue,
}

impl BatchNormConfig {
    /// torch's defaults for `num_features` channels.
    pub const fn new(num_features: usize) -> Self {
        Self {
            num_features,
            eps: 1e-5,
            momentum: Momentum::Torch(0.1),
            weight: true,
            bias: true,
            track_running_stats: true,
            running_variance: RunningVariance::Unbiased,
            single_value: SingleValue::Error,
            non_finite: NonFinite::Propagate,
            epilogue: Epilogue::Identity,
        }
    }

    /// Sets [`eps`](Self::eps).
    pub const fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    /// Sets [`momentum`](Self::momentum). A number is torch's, and `None` the cumulative average.
    pub fn momentum(mut self, momentum: impl Into<Momentum>) -> Self {
        self.momentum = momentum.into();
        self
    }

    /// Sets both [`weight`](Self::weight) and [`bias`](Self::bias).
    pub const fn affine(self, affine: bool) -> Self {
        self.weight(affine).bias(affine)
    }

    /// Sets [`weight`](Self::weight).
    pub const fn weight(mut self, weight: bool) -> Self {
        self.weight = weight;
        self
    }

    /// Sets [`bias`](Self::bias).
    pub const fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets [`track_running_stats`](Self::track_running_stats).
    pub const fn track_running_stats(mut self, track: bool) -> Self {
        self.track_running_stats = track;
        self
    }

    /// Sets [`running_variance`](Self::running_variance).
    pub const fn running_variance(mut self, variance: RunningVariance) -> Self {
        self.running_variance = variance;
        self
    }

    /// Sets [`single_value`](Self::single_value).
    pub const fn single_value(mut self, policy: SingleValue) -> Self {
        self.single_value = policy;
        self
    }

    /// Sets [`non_finite`](Self::non_finite).
    pub const fn non_finite(mut self, policy: NonFinite) -> Self {
        self.non_finite = policy;
        self
    }

    /// Sets [`epilogue`](Self::epilogue).
    pub const fn epilogue(mut self, epilogue: Epilogue) -> Self {
        self.epilogue = epilogue;
        self
    }

    /// The rows of the buffer `affine`, and of `grads`.
    pub fn affine_rows(&self) -> AffineRows {
        AffineRows::new(self.num_features, self.weight, self.bias)
    }

    /// The rows of the buffer `running`; `None` without [`track_running_stats`](Self::track_running_stats).
    pub fn running_rows(&self) -> Option<RunningRows> {
        self.track_running_stats
            .then(|| RunningRows::new(self.num_features))
    }

    /// The rows of the buffer `saved`.
    pub fn saved_rows(&self) -> SavedRows {
        SavedRows::new(self.num_features)
    }

    /// The rows of the buffer `moments`, and of each part of `parts`.
    pub fn moment_rows(&self) -> MomentRows {
        MomentRows::new(self.num_features)
    }

    /// The rows of the buffer `sums`, and of each part of sums.
    pub fn sum_rows(&self) -> SumRows {
        SumRows::new(self.num_features)
    }

    /// A new layer's buffer `affine`: weights 1, biases 0, of those that the configuration has.
    ///
    /// # Panics
    /// If the host has no memory for that many channels.
    pub fn initial_affine(&self) -> Vec<f32> {
        let row = |present, value| {
            std::iter::repeat_n(value, if present { self.num_features } else { 0 })
        };
        row(self.weight, 1.0).chain(row(self.bias, 0.0)).collect()
    }

    /// A new layer's buffer `running`, as bits: means 0, variances 1, both counters 0. Empty without
    /// [`track_running_stats`](Self::track_running_stats).
    ///
    /// # Panics
    /// If the host has no memory for that many channels.
    pub fn initial_running(&self) -> Vec<u32> {
        if !self.track_running_stats {
            return Vec::new();
        }
        [0.0f32.to_bits(), 1.0f32.to_bits(), 0, 0]
            .into_iter()
            .flat_map(|bits| std::iter::repeat_n(bits, self.num_features))
            .collect()
    }

    /// Checks what does not depend on a shape or a mode.
    pub(crate) fn check(&self) -> Result<(), PlanError> {
        if self.num_features == 0 {
            return Err(PlanError::ZeroChannels);
        }
        if !(self.eps >= 0.0 && self.eps.is_finite()) {
            return Err(PlanError::Eps {
                eps: self.eps,
                needed: "non-negative",
            });
        }
        match self.momentum {
            Momentum::Torch(momentum) | Momentum::Keras(momentum)
                if !(0.0..=1.0).contains(&momentum) =>
            {
                return Err(PlanError::Momentum { momentum });
            }
            _ => {}
        }
        if self.single_value == SingleValue::Running && !self.track_running_stats {
            return Err(PlanError::Unsupported {
                field: "single_value",
                reason: "running statistics stand in only where there are some; turn track_running_stats on",
            });
        }
        Ok(())
    }

    /// Whether running statistics stand in for those of a shape's values, of which a channel has one.
    pub(crate) fn running_stands_in(&self, shape: Shape) -> bool {
        self.single_value == SingleValue::Running && shape.values_per_channel() == Some(1)
    }

    /// Checks that the shape's values can be normalized by their own statistics.
    pub(crate) fn check_batch_statistics(&self, shape: Shape) -> Result<(), PlanError> {
        let refuses = matches!(self.single_value, SingleValue::Error | SingleValue::Running);
        if refuses && shape.values_per_channel() == Some(1) {
            return Err(PlanError::TooFewValues { shape });
        }
        if self.eps <= 0.0 {
            return Err(PlanError::Eps {
                eps: self.eps,
                needed: "positive",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_torch() {
        let config = BatchNormConfig::new(3);
        assert_eq!((config.eps, config.momentum), (1e-5, Momentum::Torch(0.1)));
        assert!(config.weight && config.bias && config.track_running_stats);
        assert_eq!(config.initial_affine(), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        let one = 1.0f32.to_bits();
        let counters = [0; 6];
        assert_eq!(config.initial_running()[..6], [0, 0, 0, one, one, one]);
        assert_eq!(config.initial_running()[6..], counters);
        assert_eq!(config.weight(false).initial_affine(), [0.0; 3]);
        assert!(config.affine(false).initial_affine().is_empty());
        assert!(
            config
                .track_running_stats(false)
                .initial_running()
                .is_empty()
        );
    }

    #[test]
    fn a_wrong_field_is_named() {
        let message = |config: BatchNormConfig| config.check().unwrap_err().to_string();
        assert!(message(BatchNormConfig::new(0)).starts_with("num_features:"));
        for eps in [-1e-5, f32::NAN, f32::INFINITY] {
            assert!(message(BatchNormConfig::new(1).eps(eps)).starts_with("eps:"));
        }
        for momentum in [f32::NAN, -0.1, 1.5, f32::INFINITY] {
            for momentum in [Momentum::Torch(momentum), Momentum::Keras(momentum)] {
                let config = BatchNormConfig::new(1).momentum(momentum);
                assert!(message(config).starts_with("momentum:"));
            }
        }
        for momentum in [Some(0.0), Some(1.0), None] {
            assert_eq!(BatchNormConfig::new(1).momentum(momentum).check(), Ok(()));
        }
        let config = BatchNormConfig::new(2);
        let untracked = config.track_running_stats(false);
        assert!(message(untracked.single_value(SingleValue::Running)).starts_with("single_value:"));
        for &policy in SingleValue::ALL {
            let refuses = matches!(policy, SingleValue::Error | SingleValue::Running);
            let config = config.single_value(policy);
            assert_eq!(
                config.check_batch_statistics(Shape::nc(1, 2)).is_err(),
                refuses
            );
            assert!(config.check_batch_statistics(Shape::nc(0, 2)).is_ok());
        }
        assert!(config.eps(0.0).check().is_ok());
        assert!(
            config
                .eps(0.0)
                .check_batch_statistics(Shape::nc(2, 2))
                .is_err()
        );
    }
}
