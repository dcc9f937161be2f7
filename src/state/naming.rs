//! How systems name the values of a norm, as data.

use super::norms::{Field, Norm};

/// The names that a system gives to the values of its norms.
///
/// A name in a file is `<collection><separator><prefix><separator><key>`, without the parts that are empty. Keys are compared
/// as whole segments, and by the kind of the norm: a tensor `gamma` of something that is no norm is never taken for a weight.
///
/// Naming does not convert numbers. Keras, Flax and burn keep running variances that are biased, torch unbiased ones: they
/// differ by the factor `n / (n - 1)`, where `n` was the number of values per channel of each training batch. No file says `n`.
///
/// ```
/// use wgpu_norm::state::{Field, Key, Naming, Norm};
/// const MINE: Naming = Naming::new("/", &[
///     Key::new(Field::Weight, &["scale"]),
///     Key::new(Field::Bias, &["shift"]).norms(&[Norm::Layer, Norm::Group]),
/// ]);
/// assert_eq!(MINE.name(Norm::Layer, "block_0/norm", Field::Bias).as_deref(), Some("block_0/norm/shift"));
/// assert_eq!(Naming::TORCH.name(Norm::Batch, "bn", Field::RunningVar).as_deref(), Some("bn.running_var"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Naming {
    separator: &'static str,
    keys: &'static [Key],
    wrappers: &'static [&'static str],
}

/// The names of one value of some norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    field: Field,
    names: &'static [&'static str],
    norms: &'static [Norm],
    collection: &'static str,
    module: Option<&'static str>,
}

impl Key {
    /// The names of a value, for every norm. The first is written, all of them are read.
    pub const fn new(field: Field, names: &'static [&'static str]) -> Self {
        Self {
            field,
            names,
            norms: Norm::ALL,
            collection: "",
            module: None,
        }
    }

    /// For these norms only.
    pub const fn norms(mut self, norms: &'static [Norm]) -> Self {
        self.norms = norms;
        self
    }

    /// Names begin with this segment, before the layer's prefix.
    pub const fn collection(mut self, collection: &'static str) -> Self {
        self.collection = collection;
        self
    }

    /// For layers whose prefix ends with this segment. Other layers take the next key of the field.
    pub const fn module(mut self, module: &'static str) -> Self {
        self.module = Some(module);
        self
    }
}

use Field::{Bias, NumBatchesTracked, RunningMean, RunningVar, Weight};

const TORCH: &[Key] = &[
    Key::new(Weight, &["weight"]),
    Key::new(Bias, &["bias"]),
    Key::new(RunningMean, &["running_mean"]),
    Key::new(RunningVar, &["running_var"]),
    Key::new(NumBatchesTracked, &["num_batches_tracked"]),
];

const KERAS: &[Key] = &[
    Key::new(Weight, &["scale"]).norms(&[Norm::Rms]),
    Key::new(Weight, &["gamma"]),
    Key::new(Bias, &["beta"]),
    Key::new(RunningMean, &["moving_mean"]),
    Key::new(RunningVar, &["moving_variance"]),
];

const FLAX_LINEN: &[Key] = &[
    Key::new(Weight, &["scale"]).collection("params"),
    Key::new(Bias, &["bias"]).collection("params"),
    Key::new(RunningMean, &["mean"]).collection("batch_stats"),
    Key::new(RunningVar, &["var"]).collection("batch_stats"),
];

const FLAX_NNX: &[Key] = &[
    Key::new(Weight, &["scale"]),
    Key::new(Bias, &["bias"]),
    Key::new(RunningMean, &["mean"]),
    Key::new(RunningVar, &["var"]),
];

const BURN: &[Key] = &[
    Key::new(Weight, &["gamma"]),
    Key::new(Bias, &["beta"]),
    Key::new(RunningMean, &["running_mean"]),
    Key::new(RunningVar, &["running_var"]),
];

const CANDLE: &[Key] = &[
    Key::new(Weight, &["weight", "gamma"]).norms(&[Norm::Layer]),
    Key::new(Bias, &["bias", "beta"]).norms(&[Norm::Layer]),
    Key::new(Weight, &["weight"]),
    Key::new(Bias, &["bias"]),
    Key::new(RunningMean, &["running_mean"]),
    Key::new(RunningVar, &["running_var"]),
];

const HF_LEGACY: &[Key] = &[
    Key::new(Weight, &["gamma", "weight"])
        .norms(&[Norm::Layer])
        .module("LayerNorm"),
    Key::new(Bias, &["beta", "bias"])
        .norms(&[Norm::Layer])
        .module("LayerNorm"),
    Key::new(Weight, &["weight"]),
    Key::new(Bias, &["bias"]),
    Key::new(RunningMean, &["running_mean"]),
    Key::new(RunningVar, &["running_var"]),
    Key::new(NumBatchesTracked, &["num_batches_tracked"]),
];

const OPENNMT: &[Key] = &[
    Key::new(Weight, &["a_2", "weight"]).norms(&[Norm::Layer]),
    Key::new(Bias, &["b_2", "bias"]).norms(&[Norm::Layer]),
];

impl Naming {
    /// torch: `weight`, `bias`, `running_mean`, `running_var` and `num_batches_tracked`. A layer that is not in the file under
    /// its prefix is looked for under prefixes with the segments `module` (of `DistributedDataParallel`) and `_orig_mod` (of
    /// `torch.compile`) in them.
    pub const TORCH: Self = Self::new(".", TORCH).wrappers(&["module", "_orig_mod"]);
    /// Keras 3: `gamma`, `beta`, `moving_mean` and `moving_variance`; `scale` of RMSNorm. `/` is between segments.
    pub const KERAS: Self = Self::new("/", KERAS);
    /// Flax linen: `params/<prefix>/{scale, bias}` and `batch_stats/<prefix>/{mean, var}`.
    pub const FLAX_LINEN: Self = Self::new("/", FLAX_LINEN);
    /// Flax nnx: `scale`, `bias`, `mean` and `var`. `/` is between segments.
    pub const FLAX_NNX: Self = Self::new("/", FLAX_NNX);
    /// burn: `gamma`, `beta`, `running_mean` and `running_var`.
    pub const BURN: Self = Self::new(".", BURN);
    /// candle: `weight`, `bias`, `running_mean` and `running_var`. A LayerNorm is read by `gamma` and `beta` too.
    pub const CANDLE: Self = Self::new(".", CANDLE);
    /// Hugging Face's files of old: `gamma` and `beta` of a LayerNorm in a module `LayerNorm`, otherwise torch's names.
    pub const HF_LEGACY: Self = Self::new(".", HF_LEGACY).wrappers(&["module", "_orig_mod"]);
    /// OpenNMT's LayerNorm: `a_2` and `b_2`.
    pub const OPENNMT: Self = Self::new(".", OPENNMT);

    /// Names of segments with this separator. Of several keys for a field, the first that serves the norm counts.
    pub const fn new(separator: &'static str, keys: &'static [Key]) -> Self {
        Self {
            separator,
            keys,
            wrappers: &[],
        }
    }

    /// The same names with another separator.
    pub const fn separator(mut self, separator: &'static str) -> Self {
        self.separator = separator;
        self
    }

    /// Segments that other programs put into prefixes.
    pub const fn wrappers(mut self, wrappers: &'static [&'static str]) -> Self {
        self.wrappers = wrappers;
        self
    }

    /// The name under which the value of a layer is written; `None` if the system does not keep the value.
    pub fn name(&self, norm: Norm, prefix: &str, field: Field) -> Option<String> {
        let key = self.key(norm, prefix, field)?;
        let name = key.names.first()?;
        Some(self.joined(&self.folder(key, prefix), name))
    }

    fn key(&self, norm: Norm, prefix: &str, field: Field) -> Option<&'static Key> {
        let module = prefix.rsplit(self.separator).next();
        self.keys.iter().find(|key| {
            let serves = key.field == field && key.norms.contains(&norm);
            serves && (key.module.is_none() || key.module == module)
        })
    }

    /// All names of a value, the first of which is written.
    pub(super) fn names(&self, norm: Norm, prefix: &str, field: Field) -> Vec<String> {
        let Some(key) = self.key(norm, prefix, field) else {
            return Vec::new();
        };
        let folder = self.folder(key, prefix);
        let names = key.names.iter();
        names.map(|name| self.joined(&folder, name)).collect()
    }

    /// What stands before the keys of a layer: one text for each collection.
    pub(super) fn folders(&self, norm: Norm, prefix: &str) -> Vec<String> {
        let fields = Field::ALL.iter();
        let keys = fields.filter_map(|&field| self.key(norm, prefix, field));
        let mut folders: Vec<String> = keys.map(|key| self.folder(key, prefix)).collect();
        folders.sort_unstable();
        folders.dedup();
        folders
    }

    fn folder(&self, key: &Key, prefix: &str) -> String {
        self.joined(key.collection, prefix)
    }

    /// The two with a separator between, unless one is empty.
    fn joined(&self, first: &str, second: &str) -> String {
        let separator = if first.is_empty() || second.is_empty() {
            ""
        } else {
            self.separator
        };
        format!("{first}{separator}{second}")
    }

    /// A name without its last segment.
    pub(super) fn parent<'a>(&self, name: &'a str) -> &'a str {
        name.rsplit_once(self.separator)
            .map_or("", |(parent, _)| parent)
    }

    /// A prefix without the segments of other programs; `None` if there are none in it.
    pub(super) fn unwrapped(&self, prefix: &str) -> Option<String> {
        let segments = || prefix.split(self.separator);
        let is_wrapper = |segment: &&str| self.wrappers.contains(segment);
        segments().any(|segment| is_wrapper(&segment)).then(|| {
            let kept: Vec<&str> = segments().filter(|segment| !is_wrapper(segment)).collect();
            kept.join(self.separator)
        })
    }
}
