//! Checksums in the metadata of a state file: one for the bytes of each tensor, and one for all that the header says.
//!
//! The format notices a cut, but no changed bit. The checksum of the header is over names, types, shapes and metadata, and
//! not over its bytes: a program that keeps the content and writes it in another order keeps the file valid.

use std::collections::BTreeMap;

use crc32fast::Hasher;

use super::tensor::StoredTensor;
use crate::error::StateError;

/// What all metadata entries of this crate begin with.
pub const OURS: &str = "wgpu-norm/";

/// The checksum of a tensor: this, and its name.
const TENSOR: &str = "wgpu-norm/crc32/";

/// The checksum of the header.
const HEADER: &str = "wgpu-norm/header-crc32";

/// The version of what the entries mean. With it, no file has a single entry of this crate, so that one which has lost the
/// checksum of the header is known.
const FORMAT: &str = "wgpu-norm/format";
const VERSION: &str = "1";

/// The metadata with all checksums.
pub fn sealed(
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, StoredTensor>,
) -> BTreeMap<String, String> {
    let mut metadata = metadata.clone();
    metadata.insert(FORMAT.to_owned(), VERSION.to_owned());
    for (name, tensor) in tensors {
        metadata.insert(format!("{TENSOR}{name}"), of_tensor(tensor));
    }
    let header = of_header(&metadata, tensors);
    metadata.insert(HEADER.to_owned(), header);
    metadata
}

/// Checks what has a checksum, and takes the checksums out of the metadata.
pub fn verify(
    metadata: &mut BTreeMap<String, String>,
    tensors: &BTreeMap<String, StoredTensor>,
) -> Result<(), StateError> {
    let wrong = |what: &str| {
        Err(StateError::Checksum {
            what: what.to_owned(),
        })
    };
    let header = metadata.remove(HEADER);
    if header.is_none() && !metadata.keys().any(|key| key.starts_with(OURS)) {
        return Ok(());
    }
    if header.as_deref() != Some(of_header(metadata, tensors).as_str()) {
        return wrong("header");
    }
    match metadata.remove(FORMAT).as_deref() {
        Some(VERSION) => {}
        version => {
            return Err(StateError::Header {
                problem: format!(
                    "{FORMAT:?} is {:?}, this version of the crate reads {VERSION:?}",
                    version.unwrap_or("missing")
                ),
            });
        }
    }
    for (name, tensor) in tensors {
        let checksum = metadata.remove(&format!("{TENSOR}{name}"));
        if checksum.is_some_and(|checksum| checksum != of_tensor(tensor)) {
            return wrong(name);
        }
    }
    match metadata.keys().find_map(|key| key.strip_prefix(TENSOR)) {
        Some(gone) => wrong(gone),
        None => Ok(()),
    }
}

fn of_tensor(tensor: &StoredTensor) -> String {
    hex(crc32fast::hash(tensor.data()))
}

/// Of all entries of the metadata but its own, then of all tensors, by name.
fn of_header(
    metadata: &BTreeMap<String, String>,
    tensors: &BTreeMap<String, StoredTensor>,
) -> String {
    let mut hasher = Hasher::new();
    // With its length, so that no two lists of texts are one row of bytes.
    let mut text = |text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    };
    for (key, value) in metadata {
        text(key);
        text(value);
    }
    for (name, tensor) in tensors {
        text(name);
        text(&tensor.dtype().to_string());
        text(&format!("{:?}", tensor.shape()));
    }
    hex(hasher.finalize())
}

fn hex(checksum: u32) -> String {
    format!("{checksum:08x}")
}
