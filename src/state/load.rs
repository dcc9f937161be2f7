//! From a file to the state of a layer: what is checked, and what is told.

use super::file::StateFile;
use super::naming::Naming;
use super::norms::{Described, Description, Field};
use super::place::{Place, Places};
use super::tensor::{StoredTensor, count};
use super::{settings, skipped};
use crate::batch_norm::State;
use crate::error::StateError;
use crate::norm::options::setters;

/// How a file and a layer may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// Whether each layer must find all of its values, none beside them, and its settings. If not, values that are missing
    /// stay as they are in the layer, others are left alone, and the [`LoadReport`] lists both. Default true.
    pub strict: bool,
    /// Whether NaN, infinite values and negative variances are replaced by those of a new layer: a weight that is not finite
    /// becomes 1 (0 with `unit_offset`), a bias 0. A channel whose running mean is not finite, or whose running variance is
    /// not a finite number of at least 0, becomes mean 0 and variance 1. If not, such a value is an error. Default false.
    pub repair: bool,
    /// The names in the file. Default [`Naming::TORCH`].
    pub naming: Naming,
}

impl LoadOptions {
    /// A strict load under torch's names, without repair.
    pub const fn new() -> Self {
        Self {
            strict: true,
            repair: false,
            naming: Naming::TORCH,
        }
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self::new()
    }
}

setters!(LoadOptions: strict: bool, repair: bool, naming: Naming);

/// What loading found that is no error. Names are those in the file.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Values that the file does not have. The layer keeps its own. A counter of batches beside running statistics is 0
    /// then: torch's files of old, and other systems', have none.
    pub missing: Vec<String>,
    /// Tensors beside a layer's values, which were left alone.
    pub unexpected: Vec<String>,
    /// Settings that the file has otherwise, as [`StateError::Setting`]. The layer keeps its own.
    pub differing: Vec<StateError>,
    /// Values that were replaced, as [`StateError::Value`].
    pub repaired: Vec<StateError>,
    /// The counters among `missing`, which are no error in a strict load.
    counters: Vec<String>,
}

impl LoadReport {
    /// The error of a strict load, once all layers have been looked at.
    pub(super) fn check(&self, options: &LoadOptions) -> Result<(), StateError> {
        if !options.strict {
            return Ok(());
        }
        let missing = self.missing.iter();
        let names: Vec<String> = missing
            .filter(|name| !self.counters.contains(name))
            .cloned()
            .collect();
        if !names.is_empty() {
            return Err(StateError::Missing { names });
        }
        match self.unexpected.is_empty() {
            true => Ok(()),
            false => Err(StateError::Unexpected {
                names: self.unexpected.clone(),
            }),
        }
    }
}

impl StateFile {
    /// The state of a layer, for plans and other callers without a layer on a device. With
    /// [`strict`](LoadOptions::strict) off, a value that the file does not have is `None`.
    ///
    /// ```
    /// use wgpu_norm::BatchNormConfig;
    /// use wgpu_norm::state::{LoadOptions, Naming, StateFile, StoredTensor};
    ///
    /// let mut file = StateFile::new();
    /// for (name, value) in [("gamma", 2.0), ("beta", 0.0), ("moving_mean", 0.5), ("moving_variance", 4.0)] {
    ///     file.insert(format!("bn/{name}"), StoredTensor::from_f32([1], &[value])?)?;
    /// }
    /// let options = LoadOptions::default().naming(Naming::KERAS);
    /// let (state, report) = file.state("bn", &BatchNormConfig::new(1), &options)?;
    /// assert_eq!(state.running_var, Some(vec![4.0]));
    /// assert_eq!(report.missing, ["num_batches_tracked of bn"]); // Keras keeps none
    /// # Ok::<(), wgpu_norm::StateError>(())
    /// ```
    ///
    /// # Errors
    /// [`StateError`] for values that are missing, do not fit the configuration, or are NaN, infinite or a negative variance.
    pub fn state(
        &self,
        prefix: &str,
        config: &impl Described,
        options: &LoadOptions,
    ) -> Result<(State, LoadReport), StateError> {
        let mut loader = Loader::new(self, *options);
        let state = loader.state(prefix, &config.description())?;
        Ok((state, loader.finish()?))
    }
}

/// Reads the states of several layers, and collects what there is to tell.
pub struct Loader<'a> {
    file: &'a StateFile,
    places: Places<'a>,
    options: LoadOptions,
    report: LoadReport,
}

impl<'a> Loader<'a> {
    pub fn new(file: &'a StateFile, options: LoadOptions) -> Self {
        Self {
            file,
            places: Places::new(file, options.naming),
            options,
            report: LoadReport::default(),
        }
    }

    /// What was found, or the error of a strict load.
    pub fn finish(self) -> Result<LoadReport, StateError> {
        self.report.check(&self.options)?;
        Ok(self.report)
    }

    /// The state of a layer. What the file does not have is `None`.
    pub fn state(&mut self, prefix: &str, layer: &Description) -> Result<State, StateError> {
        let place = self.places.find(prefix, layer)?;
        for difference in settings::differences(self.file, &place.prefix, layer) {
            match self.options.strict {
                true => return Err(difference),
                false => self.report.differing.push(difference),
            }
        }
        let mut state = State::default();
        for &field in Field::ALL.iter().filter(|field| layer.has(**field)) {
            let Some((name, tensor)) = self.tensor(&place, field) else {
                let naming = self.options.naming;
                let name = naming.name(layer.norm, &place.prefix, field);
                let name = name.unwrap_or_else(|| format!("{field} of {prefix}"));
                if field == Field::NumBatchesTracked && state.running_var.is_some() {
                    state.num_batches_tracked = Some(0);
                    // A cumulative average cannot go on without it.
                    if !layer.cumulative {
                        self.report.counters.push(name.clone());
                    }
                }
                self.report.missing.push(name);
                continue;
            };
            match field.row(&mut state) {
                Some(row) => *row = Some(values(name, tensor, layer)?),
                None => state.num_batches_tracked = Some(counter(name, tensor)?),
            }
        }
        let key = skipped::key(&place.prefix);
        let counted = place.found.contains_key(&Field::NumBatchesTracked);
        let entry = self.file.metadata().get(&key).filter(|_| counted);
        let tracked = state.num_batches_tracked.unwrap_or(0);
        let skipped = entry.map(|entry| skipped::parse(&key, entry, layer.values, tracked));
        state.num_batches_skipped = skipped.transpose()?;
        self.check_values(&place, layer, &mut state)?;
        self.report.unexpected.extend(place.unexpected);
        Ok(state)
    }

    fn tensor<'p>(&self, place: &'p Place, field: Field) -> Option<(&'p str, &'a StoredTensor)> {
        let name = place.found.get(&field)?;
        Some((name, self.file.get(name)?))
    }

    /// Refuses NaN, infinite values and negative variances, or replaces them.
    fn check_values(
        &mut self,
        place: &Place,
        layer: &Description,
        state: &mut State,
    ) -> Result<(), StateError> {
        let mut anew = Vec::new();
        for &field in Field::ALL {
            let (Some(row), Some(name)) = (field.row(state), place.found.get(&field)) else {
                continue;
            };
            for (index, value) in row.iter_mut().flatten().enumerate() {
                let Some(expected) = unsound(field, *value) else {
                    continue;
                };
                let error = StateError::Value {
                    tensor: name.clone(),
                    index,
                    expected,
                    got: value.to_string(),
                };
                if !self.options.repair {
                    return Err(error);
                }
                self.report.repaired.push(error);
                match field {
                    Field::Weight => *value = layer.initial_weight,
                    Field::Bias => *value = 0.0,
                    _ => anew.push(index),
                }
            }
        }
        // Half a statistic describes nothing.
        for (row, initial) in [
            (&mut state.running_mean, 0.0),
            (&mut state.running_var, 1.0),
        ] {
            for &channel in &anew {
                if let Some(value) = row.as_mut().and_then(|row| row.get_mut(channel)) {
                    *value = initial;
                }
            }
        }
        Ok(())
    }
}

/// What a value should be, if it is NaN, infinite or a negative variance.
fn unsound(field: Field, value: f32) -> Option<&'static str> {
    match field {
        Field::RunningVar if value.is_finite() && value >= 0.0 => None,
        Field::RunningVar => Some("a finite number of at least 0"),
        _ if value.is_finite() => None,
        _ => Some("a finite number"),
    }
}

/// The values of a row, in f32.
fn values(name: &str, tensor: &StoredTensor, layer: &Description) -> Result<Vec<f32>, StateError> {
    let shape = tensor.shape();
    let fits = match layer.many_extents {
        true => !shape.is_empty() && count(shape) == Some(layer.values),
        false => shape == [layer.values],
    };
    if !fits {
        let size = layer.values;
        return Err(StateError::Shape {
            tensor: name.to_owned(),
            expected: match layer.many_extents {
                true => format!("of {size} values"),
                false => format!("[{size}]"),
            },
            got: shape.to_vec(),
        });
    }
    tensor.to_f32().ok_or_else(|| StateError::Dtype {
        tensor: name.to_owned(),
        expected: "F32, F16, BF16 or F64",
        got: tensor.dtype().to_string(),
    })
}

/// The number of batches: an integer that the device can count to.
fn counter(name: &str, tensor: &StoredTensor) -> Result<u64, StateError> {
    if !matches!(tensor.shape(), [] | [1]) {
        return Err(StateError::Shape {
            tensor: name.to_owned(),
            expected: "[]".to_owned(),
            got: tensor.shape().to_vec(),
        });
    }
    let value = tensor.to_integer().ok_or_else(|| StateError::Dtype {
        tensor: name.to_owned(),
        expected: "I64, U64, I32 or U32",
        got: tensor.dtype().to_string(),
    })?;
    match u32::try_from(value) {
        Ok(batches) => Ok(batches.into()),
        Err(_) => Err(StateError::Counter {
            tensor: name.to_owned(),
            got: value.to_string(),
        }),
    }
}
