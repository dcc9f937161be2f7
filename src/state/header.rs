//! The header of a safetensors file: JSON that says where each tensor lies.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use super::tensor::StoredTensor;
use crate::error::StateError;

/// What the format gives the length of the header.
pub const LENGTH_BYTES: u64 = 8;

/// The longest header that readers of the format take.
pub const MAX_BYTES: u64 = 100_000_000;

/// The name that stands for no tensor.
pub const METADATA: &str = "__metadata__";

/// A header that describes its file without holes and overlaps.
pub struct Header {
    pub metadata: BTreeMap<String, String>,
    /// In the order of their bytes.
    pub tensors: Vec<(String, TensorInfo)>,
}

impl Header {
    /// Reads the JSON. What it describes begins at byte 0 and has no holes; its length is
    /// [`data_bytes`](Self::data_bytes).
    pub fn parse(json: &[u8]) -> Result<Self, StateError> {
        let text = std::str::from_utf8(json).map_err(|error| wrong(&error))?;
        let Keys { maps, tensors } = serde_json::from_str(text).map_err(|error| wrong(&error))?;
        if maps.len() > 1 {
            return Err(twice(METADATA));
        }
        let mut metadata = BTreeMap::new();
        for (key, value) in maps.into_iter().flat_map(|Entries(entries)| entries) {
            match metadata.contains_key(&key) {
                true => return Err(twice(&key)),
                false => metadata.insert(key, value),
            };
        }
        let mut names: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(twice(pair[0]));
        }
        let mut tensors: Vec<(String, TensorInfo)> = tensors
            .into_iter()
            .map(|(name, info)| (name, info.into()))
            .collect();
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        // Sizes by type and shape, holes, overlaps, overflow.
        Metadata::new(None, tensors.clone()).map_err(|error| wrong(&error))?;
        Ok(Self { metadata, tensors })
    }

    /// The bytes of all tensors.
    pub fn data_bytes(&self) -> u64 {
        let last = self.tensors.last();
        last.map_or(0, |(_, tensor)| tensor.data_offsets.1 as u64)
    }
}

fn wrong(error: &impl fmt::Display) -> StateError {
    StateError::Header {
        problem: error.to_string(),
    }
}

fn twice(name: &str) -> StateError {
    StateError::Duplicate {
        name: name.to_owned(),
    }
}

/// The keys of the header in the order of the text, none of them dropped.
#[derive(Default)]
struct Keys {
    maps: Vec<Entries>,
    tensors: Vec<(String, Info)>,
}

/// A tensor as the header describes it. A word that the format does not have would be lost on rewriting.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl From<Info> for TensorInfo {
    fn from(info: Info) -> Self {
        Self {
            dtype: info.dtype,
            shape: info.shape,
            data_offsets: info.data_offsets,
        }
    }
}

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Keys::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name == METADATA {
                        true => keys.maps.push(map.next_value()?),
                        false => keys.tensors.push((name, map.next_value()?)),
                    }
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The entries of `__metadata__`.
struct Entries(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

/// The tensors in the order in which they are written: the widest types first, so that each is aligned, then by name.
pub fn order(tensors: &BTreeMap<String, StoredTensor>) -> Vec<(&String, &StoredTensor)> {
    let mut ordered: Vec<_> = tensors.iter().collect();
    ordered.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.dtype()));
    ordered
}

/// The length and the JSON of a header, padded to whole words of 8 bytes. The same content gives the same bytes.
pub fn write(
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, StoredTensor>,
) -> Result<Vec<u8>, StateError> {
    let mut json = String::from("{");
    if !metadata.is_empty() {
        let entries = metadata
            .iter()
            .map(|(key, value)| format!("{}:{}", quoted(key), quoted(value)));
        let entries: Vec<String> = entries.collect();
        json += &format!("{}:{{{}}}", quoted(METADATA), entries.join(","));
    }
    let mut offset = 0;
    for (name, tensor) in order(tensors) {
        let comma = if json.len() > 1 { "," } else { "" };
        let shape: Vec<String> = tensor.shape().iter().map(ToString::to_string).collect();
        let (begin, end) = (offset, offset + tensor.data().len() as u64);
        let _ = write!(
            json,
            "{comma}{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{begin},{end}]}}",
            quoted(name),
            tensor.dtype(),
            shape.join(","),
        );
        offset = end;
    }
    json.push('}');
    let length = (json.len() as u64).next_multiple_of(LENGTH_BYTES);
    if length > MAX_BYTES {
        return Err(StateError::TooLarge {
            got: length,
            limit: MAX_BYTES,
        });
    }
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(json.bytes());
    bytes.resize((LENGTH_BYTES + length) as usize, b' ');
    Ok(bytes)
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
