//! A case of a suite, whoever made it.

use std::collections::BTreeMap;

use wgpu_norm::reference::batch_norm::Running;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{Dtype, Shape};

/// So many values of `y` and `dx` are in `torch_samples.safetensors` if there are more.
const KEPT: usize = 360;

/// Results by name: `y`, `mean`, `inv_std`, `running_mean`, `running_var`, `dx`, `dweight`, `dbias`.
pub type Values = BTreeMap<&'static str, Vec<f64>>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// In training, or in evaluation, where the momentum is of no matter.
    Batch {
        training: bool,
        momentum: Option<f64>,
    },
    /// By the running statistics if there are any: in evaluation.
    Instance,
    Group {
        groups: usize,
    },
    /// Over the last axis of a shape `(rows, size)`.
    Layer,
    /// As `Layer`.
    Rms,
}

impl Norm {
    /// Those of all norms.
    pub const NAMES: &[&str] = &[
        "BatchNorm",
        "InstanceNorm",
        "GroupNorm",
        "LayerNorm",
        "RMSNorm",
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Batch { .. } => "BatchNorm",
            Self::Instance => "InstanceNorm",
            Self::Group { .. } => "GroupNorm",
            Self::Layer => "LayerNorm",
            Self::Rms => "RMSNorm",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Case {
    pub suite: &'static str,
    pub name: String,
    pub norm: Norm,
    pub shape: Shape,
    /// The storage type of `x` and `dy`, whose values it has.
    pub dtype: Dtype,
    pub eps: f64,
    /// One value per channel, as the bias.
    pub weight: Option<Vec<f64>>,
    pub bias: Option<Vec<f64>>,
    /// Those before the batch. A BatchNorm without them normalizes by the batch's statistics in evaluation, too.
    pub running: Option<Running>,
    pub x: Vec<f64>,
    pub dy: Option<Vec<f64>>,
    pub expected: Values,
    /// How exact the expected values are.
    pub bound: Bound,
    /// Why the library cannot express the case, where shape and options do not say so.
    pub inexpressible: Option<&'static str>,
}

impl Case {
    /// Why the library cannot express the case.
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.shape.channels() == 0 {
            return Some("no channels");
        }
        if self.eps <= 0.0 {
            return Some("eps is not positive");
        }
        match self.norm {
            _ if self.inexpressible.is_some() => self.inexpressible,
            Norm::Batch {
                training: true,
                momentum: Some(momentum),
            } if !(0.0..=1.0).contains(&momentum) => Some("momentum is no share"),
            _ => None,
        }
    }

    /// How exact a device is: some units in the last place of a tensor's largest values, and a rounding in 16 bits.
    pub fn device_bound(&self, expected: &[f64]) -> Bound {
        let largest = expected.iter().fold(1.0, |most: f64, v| most.max(v.abs()));
        let (relative, absolute) = match self.dtype {
            Dtype::F32 => (0.0, 0.0),
            _ => (2f64.powi(-11), 2f64.powi(-25)),
        };
        Bound::new(1e-5 + relative, 4e-6 * largest + absolute)
    }

    pub fn weight(&self) -> Option<&[f64]> {
        self.weight.as_deref()
    }

    pub fn bias(&self) -> Option<&[f64]> {
        self.bias.as_deref()
    }
}

/// Compares all expected values.
pub fn check(case: &Case, actual: &Values, bound: impl Fn(&[f64]) -> Bound) {
    assert!(case.expected.contains_key("y"), "{}", case.name);
    for (&name, expected) in &case.expected {
        let what = format!("{} of {} ({} {})", name, case.name, case.suite, case.shape);
        let actual = actual.get(name).unwrap_or_else(|| panic!("no {what}"));
        let is_cut = expected.len() == KEPT && ["y", "dx"].contains(&name);
        let actual = if is_cut { &actual[..KEPT] } else { actual };
        within(&what, actual, expected, bound(expected)).unwrap();
    }
}
