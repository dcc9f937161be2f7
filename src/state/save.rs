//! From the state of a layer to a file.

use safetensors::Dtype;

use super::file::StateFile;
use super::naming::Naming;
use super::norms::{Described, Description, Field};
use super::place::Places;
use super::tensor::{StoredTensor, count};
use super::{settings, skipped};
use crate::batch_norm::State;
use crate::error::StateError;

impl StateFile {
    /// Puts the state of a layer into the file, in place of what the file has of that layer, and its settings into the
    /// metadata. For plans and other callers without a layer on a device.
    ///
    /// What the file has of the layer keeps its names; the rest gets the first names of the naming. Rows are F32, the counter of batches is a single I64 as in torch. A row keeps the shape that it has in the file if it is
    /// torch's `normalized_shape`. A counter for which the naming has no name is left out.
    ///
    /// ```
    /// use wgpu_norm::LayerNormConfig;
    /// use wgpu_norm::batch_norm::State;
    /// use wgpu_norm::state::{LoadOptions, Naming, StateFile};
    ///
    /// let config = LayerNormConfig::new(2);
    /// let mut state = State::default();
    /// state.weight = Some(vec![1.0, 2.0]);
    /// state.bias = Some(vec![0.0; 2]);
    /// let mut file = StateFile::new();
    /// file.insert_state("ln", &config, &state, Naming::TORCH)?;
    /// assert_eq!(file.names().collect::<Vec<_>>(), ["ln.bias", "ln.weight"]);
    /// let back = StateFile::from_bytes(&file.to_bytes()?)?;
    /// assert_eq!(back.state("ln", &config, &LoadOptions::default())?.0, state);
    /// # Ok::<(), wgpu_norm::StateError>(())
    /// ```
    ///
    /// # Errors
    /// [`StateError`] for a state that does not fit the configuration. The file is as it was then.
    pub fn insert_state(
        &mut self,
        prefix: &str,
        config: &impl Described,
        state: &State,
        naming: Naming,
    ) -> Result<(), StateError> {
        self.insert_layer(prefix, &config.description(), state, naming)
    }

    pub(super) fn insert_layer(
        &mut self,
        prefix: &str,
        layer: &Description,
        state: &State,
        naming: Naming,
    ) -> Result<(), StateError> {
        let places = Places::new(self, naming);
        let place = places.find(prefix, layer)?;
        let mut tensors = Vec::new();
        let mut state = state.clone();
        for &field in Field::ALL {
            // What the file has keeps its name.
            let found = place.found.get(&field).cloned();
            let name = found.or_else(|| naming.name(layer.norm, &place.prefix, field));
            let told = name.clone();
            let told = told.unwrap_or_else(|| format!("{field} of {prefix}"));
            let tensor = match field.row(&mut state) {
                Some(row) => row.take().map(|row| {
                    let old = name.as_ref().and_then(|name| self.get(name));
                    row_tensor(&told, &row, layer, old)
                }),
                None => state
                    .num_batches_tracked
                    .map(|batches| counter_tensor(&told, batches)),
            };
            match (tensor, layer.has(field)) {
                (None, false) => {}
                (None, true) => return Err(unfit(told, "missing in the state; fill it in")),
                (Some(_), false) => {
                    return Err(unfit(
                        told,
                        "the configuration has no such value; leave it out",
                    ));
                }
                (Some(tensor), true) => match name {
                    Some(name) if tensors.iter().any(|(other, _)| *other == name) => {
                        let problem = "the naming has its name for another value, too; use another";
                        return Err(unfit(told, problem));
                    }
                    Some(name) => tensors.push((name, tensor?)),
                    None if field == Field::NumBatchesTracked => {}
                    None => return Err(unfit(told, "the naming has no name for it; use another")),
                },
            }
        }
        let batches = state.num_batches_skipped.as_deref().unwrap_or_default();
        let told = || format!("num_batches_skipped of {prefix}");
        if !batches.is_empty() && (!layer.running || batches.len() != layer.values) {
            return Err(unfit(told(), "the configuration has not so many channels"));
        }
        let tracked = state.num_batches_tracked.unwrap_or(0);
        if batches.iter().any(|&batches| u64::from(batches) > tracked) {
            return Err(unfit(
                told(),
                "a channel has skipped more batches than there were",
            ));
        }
        // Without the counter they mean nothing.
        let counted = naming.name(layer.norm, &place.prefix, Field::NumBatchesTracked);
        let skipped = counted.map(|_| skipped::entry(batches));
        let skipped_key = skipped::key(&place.prefix);
        let (key, entry) = (settings::key(&place.prefix), settings::entry(layer));
        for name in places.all_names(&place, layer.norm) {
            self.tensors.remove(&name);
        }
        self.tensors.extend(tensors);
        self.metadata.insert(key, entry);
        match skipped.filter(|entry| !entry.is_empty()) {
            Some(entry) => self.metadata.insert(skipped_key, entry),
            None => self.metadata.remove(&skipped_key),
        };
        Ok(())
    }
}

fn unfit(tensor: String, problem: impl Into<String>) -> StateError {
    StateError::Unfit {
        tensor,
        problem: problem.into(),
    }
}

fn row_tensor(
    name: &str,
    values: &[f32],
    layer: &Description,
    old: Option<&StoredTensor>,
) -> Result<StoredTensor, StateError> {
    if values.len() != layer.values {
        let (expected, got) = (layer.values, values.len());
        let problem = format!("the configuration has {expected} values, the state {got}");
        return Err(unfit(name.to_owned(), problem));
    }
    let old = old.map(StoredTensor::shape);
    let shape = old.filter(|shape| layer.many_extents && count(shape) == Some(values.len()));
    StoredTensor::from_f32(shape.unwrap_or(&[values.len()]), values)
}

fn counter_tensor(name: &str, batches: u64) -> Result<StoredTensor, StateError> {
    let counted = u32::try_from(batches).map_err(|_| StateError::Counter {
        tensor: name.to_owned(),
        got: batches.to_string(),
    })?;
    let count = i64::from(counted);
    StoredTensor::new(Dtype::I64, [], count.to_le_bytes().to_vec())
}
