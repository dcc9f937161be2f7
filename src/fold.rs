//! A trained BatchNorm, folded into the weights of the layer before it.
//!
//! Outside training a BatchNorm is a product and a sum for each channel, which a convolution or a linear layer before it can
//! do with its own weights: `weight' = weight * s` and `bias' = (bias - running_mean) * s + bn.bias`, where
//! `s = bn.weight / sqrt(running_var + eps)` belongs to the output channel. [`fold`] computes that, [`unfold`] goes back.
//!
//! ```
//! use wgpu_norm::BatchNormConfig;
//! use wgpu_norm::batch_norm::State;
//! use wgpu_norm::fold::{Weights, fold, unfold};
//!
//! let config = BatchNormConfig::new(2).eps(0.0);
//! let mut state = State::default();
//! state.weight = Some(vec![1.0, 3.0]);
//! state.bias = Some(vec![0.0, 0.5]);
//! state.running_mean = Some(vec![2.0, 0.0]);
//! state.running_var = Some(vec![4.0, 1.0]);
//! state.num_batches_tracked = Some(100);
//!
//! let linear = Weights::new(&[2, 2], &[1.0, 2.0, 3.0, 4.0]); // [out, in]
//! let folded = fold(linear, &config, &state)?;
//! assert_eq!(folded.weight, [0.5, 1.0, 9.0, 12.0]);
//! assert_eq!(folded.bias, [-1.0, 0.5]);
//! let back = unfold(folded.like(linear), &config, &state)?;
//! assert_eq!((&back.weight[..], back.bias), (linear.weight, vec![0.0; 2]));
//! # Ok::<(), wgpu_norm::FoldError>(())
//! ```
//!
//! What the norm's [`epilogue`](crate::BatchNormConfig::epilogue) does, ReLU, SiLU or the sum with a residual, comes after the
//! folded layer and remains to be done. Only running statistics can be folded: those of a batch, a group or a row are not known
//! before the input is.

use crate::batch_norm::{BatchNormConfig, State};
use crate::error::FoldError;

/// The weights of a linear layer or a convolution, in torch's layout.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Weights<'a> {
    /// The extents of `weight`: `[out, in]` of a linear layer, `[out, in / groups, kernel...]` of a convolution,
    /// `[in, out / groups, kernel...]` of a transposed one.
    pub shape: &'a [usize],
    /// The values, row-major.
    pub weight: &'a [f32],
    /// One value for each output channel; `None` counts as zeros.
    pub bias: Option<&'a [f32]>,
    /// `None` if the output channels are the first extent. The number of groups of a transposed convolution, where they are
    /// `groups` times the second.
    pub transposed: Option<usize>,
}

impl<'a> Weights<'a> {
    /// Of a linear layer, or of a convolution over any number of axes and with any number of groups.
    pub const fn new(shape: &'a [usize], weight: &'a [f32]) -> Self {
        Self {
            shape,
            weight,
            bias: None,
            transposed: None,
        }
    }

    /// Of a transposed convolution of this many groups.
    pub const fn transposed(shape: &'a [usize], weight: &'a [f32], groups: usize) -> Self {
        let mut weights = Self::new(shape, weight);
        weights.transposed = Some(groups);
        weights
    }

    /// Sets [`bias`](Self::bias).
    pub const fn bias(mut self, bias: Option<&'a [f32]>) -> Self {
        self.bias = bias;
        self
    }

    /// Checks shape and lengths.
    fn check(&self, channels: usize) -> Result<(), FoldError> {
        let shape = |problem| FoldError::Shape {
            problem,
            shape: self.shape.to_vec(),
        };
        let &[first, second, ..] = self.shape else {
            return Err(shape("expected at least two extents"));
        };
        let out = match self.transposed {
            None => Some(first),
            Some(0) => return Err(shape("a transposed convolution has at least one group")),
            Some(groups) if !first.is_multiple_of(groups) => {
                return Err(shape("groups must divide the input channels"));
            }
            Some(groups) => second.checked_mul(groups),
        };
        let mut extents = self.shape.iter();
        let count = extents.try_fold(1usize, |count, &extent| count.checked_mul(extent));
        let (Some(out), Some(count)) = (out, count) else {
            return Err(shape("expected a product that fits"));
        };
        if out != channels {
            return Err(FoldError::Channels {
                expected: channels,
                got: out,
                shape: self.shape.to_vec(),
            });
        }
        check_length("weight", self.weight.len(), count)?;
        let bias = self.bias.map_or(channels, <[f32]>::len);
        check_length("bias", bias, channels)
    }

    /// The output channel of a value, for a shape that is checked.
    fn channel(&self, index: usize) -> usize {
        let kernel: usize = self.shape[2..].iter().product();
        let (row, column) = (
            index / kernel / self.shape[1],
            index / kernel % self.shape[1],
        );
        match self.transposed {
            None => row,
            Some(groups) => row / (self.shape[0] / groups) * self.shape[1] + column,
        }
    }
}

/// What [`fold`] and [`unfold`] compute. The weights keep their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded {
    /// The values, row-major.
    pub weight: Vec<f32>,
    /// One value for each output channel, for layers without a bias too.
    pub bias: Vec<f32>,
}

impl Folded {
    /// The values as weights of the layer that they were computed for.
    pub fn like<'a>(&'a self, layer: Weights<'a>) -> Weights<'a> {
        Weights {
            weight: &self.weight,
            bias: Some(&self.bias),
            ..layer
        }
    }
}

/// Folds a BatchNorm into the layer before it: the new weights do in one layer what layer and norm did in evaluation.
/// Computed in f64, rounded once.
///
/// A channel whose variance is so large that the norm leaves its bias alone becomes that bias, and so does one whose
/// variance and `eps` are 0.
///
/// # Errors
/// [`FoldError`] for weights, a configuration and a state that do not fit, and for values that are not finite.
pub fn fold(
    layer: Weights<'_>,
    config: &BatchNormConfig,
    state: &State,
) -> Result<Folded, FoldError> {
    let norm = Affine::new(layer, config, state)?;
    let weight = layer.weight.iter().enumerate();
    let weight = weight.map(|(index, &value)| f64::from(value) * norm.scale[layer.channel(index)]);
    let bias = (0..config.num_features).map(|channel| {
        let bias = layer.bias.map_or(0.0, |bias| bias[channel]);
        (f64::from(bias) - norm.mean[channel]) * norm.scale[channel] + norm.shift[channel]
    });
    Ok(Folded {
        weight: rounded("weight", weight)?,
        bias: rounded("bias", bias)?,
    })
}

/// The inverse of [`fold`]: the weights of the layer before the norm, from those of both together. The bias that a layer
/// did not have comes back as zeros, up to rounding.
///
/// # Errors
/// As [`fold`], and [`FoldError::ZeroScale`] where the norm multiplies by zero.
pub fn unfold(
    layer: Weights<'_>,
    config: &BatchNormConfig,
    state: &State,
) -> Result<Folded, FoldError> {
    let norm = Affine::new(layer, config, state)?;
    if let Some(channel) = norm.scale.iter().position(|&scale| scale == 0.0) {
        return Err(FoldError::ZeroScale { channel });
    }
    let weight = layer.weight.iter().enumerate();
    let weight = weight.map(|(index, &value)| f64::from(value) / norm.scale[layer.channel(index)]);
    let bias = (0..config.num_features).map(|channel| {
        let bias = layer.bias.map_or(0.0, |bias| bias[channel]);
        (f64::from(bias) - norm.shift[channel]) / norm.scale[channel] + norm.mean[channel]
    });
    Ok(Folded {
        weight: rounded("weight", weight)?,
        bias: rounded("bias", bias)?,
    })
}

/// A norm in evaluation, by channel: `(x - mean) * scale + shift`.
struct Affine {
    mean: Vec<f64>,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl Affine {
    /// Of a norm that fits the layer.
    fn new(layer: Weights<'_>, config: &BatchNormConfig, state: &State) -> Result<Self, FoldError> {
        let channels = config.num_features;
        layer.check(channels)?;
        if !config.track_running_stats {
            return Err(FoldError::State {
                field: "running_mean",
                problem: "track_running_stats is off, so there are no statistics to fold",
            });
        }
        if !(config.eps >= 0.0 && config.eps.is_finite()) {
            return Err(FoldError::Value {
                field: "eps",
                index: 0,
                expected: "a finite number of at least 0",
                got: config.eps.into(),
            });
        }
        for (field, values) in [
            ("weight of the layer", Some(layer.weight)),
            ("bias of the layer", layer.bias),
        ] {
            check_finite(field, values.unwrap_or_default())?;
        }
        let row = |field, values: &Option<Vec<f32>>, wanted: bool, absent: f64| {
            let Some(values) = values else {
                return match wanted {
                    true => Err(FoldError::State {
                        field,
                        problem: "is missing",
                    }),
                    false => Ok(vec![absent; channels]),
                };
            };
            if !wanted {
                let problem = "is given, but the configuration has none";
                return Err(FoldError::State { field, problem });
            }
            check_length(field, values.len(), channels)?;
            if field != "running_var" {
                check_finite(field, values)?;
            }
            Ok(values.iter().copied().map(f64::from).collect())
        };
        let weight = row("weight", &state.weight, config.weight, 1.0)?;
        let var = row("running_var", &state.running_var, true, 1.0)?;
        let wrong = |var: &f64| var.is_nan() || *var < 0.0;
        if let Some(index) = var.iter().position(wrong) {
            return Err(FoldError::Value {
                field: "running_var",
                index,
                expected: "0 or more",
                got: var[index],
            });
        }
        let scale = |(weight, var): (&f64, f64)| match var + f64::from(config.eps) {
            0.0 => 0.0,
            sum => weight / sum.sqrt(),
        };
        Ok(Self {
            mean: row("running_mean", &state.running_mean, true, 0.0)?,
            scale: weight.iter().zip(var).map(scale).collect(),
            shift: row("bias", &state.bias, config.bias, 0.0)?,
        })
    }
}

fn check_length(field: &'static str, got: usize, expected: usize) -> Result<(), FoldError> {
    match got == expected {
        true => Ok(()),
        false => Err(FoldError::Length {
            field,
            expected,
            got,
        }),
    }
}

fn check_finite(field: &'static str, values: &[f32]) -> Result<(), FoldError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(index) => Err(FoldError::Value {
            field,
            index,
            expected: "a finite number",
            got: values[index].into(),
        }),
    }
}

/// The values in f32, which none of them may exceed.
fn rounded(field: &'static str, values: impl Iterator<Item = f64>) -> Result<Vec<f32>, FoldError> {
    let rounded = values.enumerate().map(|(index, value)| {
        let narrow = value as f32;
        match narrow.is_finite() {
            true => Ok(narrow),
            false => Err(FoldError::Value {
                field,
                index,
                expected: "a result within f32",
                got: value,
            }),
        }
    });
    rounded.collect()
}
