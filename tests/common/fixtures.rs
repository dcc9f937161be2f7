//! Files of fixtures, and the generator of the values that they do not store.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

/// The generator of the scripts in `tests/fixtures`, whose seeding differs from `reference::noise`.
pub fn draw(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    })
    .take(count)
    .collect()
}

/// A file of fixtures, with a note of the tensors that were asked for.
pub struct Fixtures {
    tensors: SafeTensors<'static>,
    metadata: HashMap<String, String>,
    used: RefCell<BTreeSet<String>>,
}

impl Fixtures {
    /// Reads a file, which its script must have made as it is now.
    pub fn new(file: &'static [u8], script: &[u8]) -> Self {
        let (_, header) = SafeTensors::read_metadata(file).expect("a safetensors file");
        let metadata = header.metadata().clone().expect("metadata");
        let hash: String = Sha256::digest(script)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            metadata["script"], hash,
            "the script has changed: run it again"
        );
        Self {
            tensors: SafeTensors::deserialize(file).expect("tensors"),
            metadata,
            used: RefCell::default(),
        }
    }

    /// An entry of the metadata as it is.
    pub fn text(&self, key: &str) -> &str {
        &self.metadata[key]
    }

    /// An entry of the metadata that is written in JSON.
    pub fn json<T: DeserializeOwned>(&self, key: &str) -> T {
        serde_json::from_str(&self.metadata[key]).unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    /// The words of a tensor of 8-byte values.
    pub fn words(&self, name: &str) -> Vec<[u8; 8]> {
        let tensor = self.tensors.tensor(name);
        let tensor = tensor.unwrap_or_else(|_| panic!("no tensor {name}"));
        self.used.borrow_mut().insert(name.to_owned());
        let words = tensor.data().chunks(8);
        words
            .map(|word| word.try_into().expect("8 bytes"))
            .collect()
    }

    /// The values of a tensor of floating point numbers; `None` if there is no such tensor.
    pub fn values(&self, name: &str) -> Option<Vec<f64>> {
        let tensor = self.tensors.tensor(name).ok()?;
        self.used.borrow_mut().insert(name.to_owned());
        let value = |word: &[u8]| -> f64 {
            match (tensor.dtype(), word) {
                (Dtype::F64, _) => f64::from_le_bytes(word.try_into().expect("8 bytes")),
                (Dtype::F32, _) => f32::from_le_bytes(word.try_into().expect("4 bytes")).into(),
                (Dtype::F16, &[low, high]) => f16::from_le_bytes([low, high]).into(),
                (Dtype::BF16, &[low, high]) => bf16::from_le_bytes([low, high]).into(),
                (dtype, _) => panic!("{name} is of {dtype:?}"),
            }
        };
        let words = tensor.data().chunks(tensor.dtype().bitsize() / 8);
        Some(words.map(value).collect())
    }

    /// The extents of a tensor.
    pub fn dims(&self, name: &str) -> Vec<usize> {
        let tensor = self.tensors.tensor(name);
        let tensor = tensor.unwrap_or_else(|_| panic!("no tensor {name}"));
        tensor.shape().to_vec()
    }

    /// Fails if a tensor was not asked for.
    pub fn check_all_used(&self) {
        let names = self.tensors.names().into_iter();
        let names: BTreeSet<String> = names.map(ToString::to_string).collect();
        assert_eq!(*self.used.borrow(), names, "every tensor is looked at");
    }
}
