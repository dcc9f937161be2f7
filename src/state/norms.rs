//! What a state file must know of each norm: which values it has, how many, and with which settings.

use crate::batch_norm::{BatchNormConfig, State};
use crate::group_norm::GroupNormConfig;
use crate::instance_norm::InstanceNormConfig;
use crate::layer_norm::LayerNormConfig;
use crate::norm::sample::SampleNorm;
use crate::rms_norm::RmsNormConfig;
use crate::word::words;

/// The kind of a norm, by which its values have names.
///
/// `Display` and `FromStr` use the words of the metadata: `batch`, `group`, `instance`, `layer` and `rms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Norm {
    /// [`BatchNormConfig`].
    Batch,
    /// [`GroupNormConfig`].
    Group,
    /// [`InstanceNormConfig`].
    Instance,
    /// [`LayerNormConfig`].
    Layer,
    /// [`RmsNormConfig`].
    Rms,
}

words!(Norm, "norm", "batch, group, instance, layer or rms": Batch "batch", Group "group", Instance "instance",
    Layer "layer", Rms "rms");

/// A value of a layer's state.
///
/// `Display` and `FromStr` use torch's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The factors of the output.
    Weight,
    /// What is added to the output.
    Bias,
    /// Averages of batch means.
    RunningMean,
    /// Averages of batch variances.
    RunningVar,
    /// How many batches have moved the averages.
    NumBatchesTracked,
}

words!(Field, "field", "weight, bias, running_mean, running_var or num_batches_tracked": Weight "weight", Bias "bias",
    RunningMean "running_mean", RunningVar "running_var", NumBatchesTracked "num_batches_tracked");

impl Field {
    /// The values of the field that are a row of numbers.
    pub(super) fn row(self, state: &mut State) -> Option<&mut Option<Vec<f32>>> {
        Some(match self {
            Self::Weight => &mut state.weight,
            Self::Bias => &mut state.bias,
            Self::RunningMean => &mut state.running_mean,
            Self::RunningVar => &mut state.running_var,
            Self::NumBatchesTracked => return None,
        })
    }
}

/// The configuration of a norm, of which a state file can hold the values. Sealed.
pub trait Described: Sealed {}

impl<T: Sealed> Described for T {}

/// What [`Described`] keeps to the crate.
pub trait Sealed {
    fn description(&self) -> Description;
}

/// A norm as a state file sees it.
#[derive(Clone, Debug)]
pub struct Description {
    pub norm: Norm,
    /// The values of a row.
    pub values: usize,
    pub weight: bool,
    pub bias: bool,
    pub running: bool,
    /// Whether the next running statistics depend on how many batches there were.
    pub cumulative: bool,
    /// Whether a row may have several extents in the file: torch's `normalized_shape`.
    pub many_extents: bool,
    /// A new layer's weight.
    pub initial_weight: f32,
    /// What the file's metadata says of the layer, without the norm. The numbers are exact.
    pub settings: Vec<(&'static str, String)>,
}

impl Description {
    /// Has a layer of the configuration this value?
    pub fn has(&self, field: Field) -> bool {
        match field {
            Field::Weight => self.weight,
            Field::Bias => self.bias,
            Field::RunningMean | Field::RunningVar | Field::NumBatchesTracked => self.running,
        }
    }

    fn of(norm: Norm, values: usize, affine: [bool; 2], eps: f32) -> Self {
        let [weight, bias] = affine;
        Self {
            norm,
            values,
            weight,
            bias,
            running: false,
            cumulative: false,
            many_extents: false,
            initial_weight: 1.0,
            settings: vec![("eps", exact(eps))],
        }
    }

    /// Of a norm without running statistics.
    fn of_sample(norm: Norm, config: &impl SampleNorm) -> Self {
        let (members, rows) = (config.members(), config.affine_rows());
        let affine = [rows.weight.is_some(), rows.bias.is_some()];
        Self {
            initial_weight: config.initial_weight(),
            ..Self::of(norm, config.sample_parameters(), affine, members.eps)
        }
        .with("unit_offset", members.unit_offset)
    }

    fn with(mut self, setting: &'static str, value: impl ToString) -> Self {
        self.settings.push((setting, value.to_string()));
        self
    }
}

/// The shortest decimal that reads back as the same number.
fn exact(value: f32) -> String {
    format!("{value:?}")
}

impl Sealed for BatchNormConfig {
    fn description(&self) -> Description {
        let affine = [self.weight, self.bias];
        let description = Description::of(Norm::Batch, self.num_features, affine, self.eps);
        let share = self.momentum.share();
        let momentum = share.map_or("cumulative".to_owned(), exact);
        Description {
            running: self.track_running_stats,
            cumulative: share.is_none(),
            ..description.with("num_features", self.num_features)
        }
        .with("momentum", momentum)
        .with("running_variance", self.running_variance)
    }
}

impl Sealed for GroupNormConfig {
    fn description(&self) -> Description {
        Description::of_sample(Norm::Group, self)
            .with("num_groups", self.num_groups)
            .with("num_channels", self.num_channels)
    }
}

impl Sealed for InstanceNormConfig {
    fn description(&self) -> Description {
        Description::of_sample(Norm::Instance, self).with("num_features", self.num_features)
    }
}

impl Sealed for LayerNormConfig {
    fn description(&self) -> Description {
        Description {
            many_extents: true,
            ..Description::of_sample(Norm::Layer, self)
        }
        .with("normalized_size", self.normalized_size)
    }
}

impl Sealed for RmsNormConfig {
    fn description(&self) -> Description {
        Description {
            many_extents: true,
            ..Description::of_sample(Norm::Rms, self)
        }
        .with("normalized_size", self.normalized_size)
    }
}
