//! The content of a state file, and its way to the disk and back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::ops::Bound;
use std::path::Path;

use super::tensor::StoredTensor;
use super::{atomic, checksum, header};
use crate::error::StateError;

/// Tensors by name, and texts about them: the content of a safetensors file.
///
/// It holds the values of any number of layers, and whatever tensors others have put there: those and their metadata stay
/// as they are when the file is written again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StateFile {
    pub(super) tensors: BTreeMap<String, StoredTensor>,
    /// Without checksums, which belong to a written file.
    pub(super) metadata: BTreeMap<String, String>,
}

impl StateFile {
    /// The most bytes that [`read`](Self::read) takes: 4 GiB.
    pub const MAX_BYTES: u64 = 4 << 30;

    /// A file without tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file of at most [`MAX_BYTES`](Self::MAX_BYTES). Nothing is mapped into memory: another program may replace or cut
    /// the file meanwhile.
    ///
    /// # Errors
    /// [`StateError`] for a file that cannot be read, is not whole, is of another format, or does not have the checksums that
    /// it was written with.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, StateError> {
        Self::read_at_most(path, Self::MAX_BYTES)
    }

    /// As [`read`](Self::read), with another limit. No memory is taken for a larger file, nor for a header that does not fit its
    /// file.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_at_most(path: impl AsRef<Path>, max_bytes: u64) -> Result<Self, StateError> {
        let path = path.as_ref();
        let unreadable = |error: io::Error| failed(path, "name a file that can be read", &error);
        // To open a pipe is to wait for its other end.
        if !fs::metadata(path).map_err(unreadable)?.is_file() {
            return Err(StateError::Io {
                path: path.to_owned(),
                message: "is a folder, pipe or device; name a file".to_owned(),
            });
        }
        let file = File::open(path).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > max_bytes {
            return Err(StateError::TooLarge {
                got: bytes,
                limit: max_bytes,
            });
        }
        parse(&mut BufReader::new(file), bytes, unreadable)
    }

    /// The content of a file with these bytes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let of_memory = |error: io::Error| failed(Path::new("bytes"), "give all of them", &error);
        parse(&mut &*bytes, bytes.len() as u64, of_memory)
    }

    /// The bytes of the file. The same content gives the same bytes.
    ///
    /// # Errors
    /// [`StateError::TooLarge`] if the names alone are more than 100 MB, [`StateError::OutOfMemory`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, StateError> {
        let header = self.header()?;
        let tensors = self.tensors.values().map(|tensor| tensor.data().len());
        let mut bytes = reserved(tensors.sum::<usize>().saturating_add(header.len()))?;
        bytes.extend(header);
        for (_, tensor) in header::order(&self.tensors) {
            bytes.extend_from_slice(tensor.data());
        }
        Ok(bytes)
    }

    /// Writes the file, or replaces it: at every moment, the file of this name is whole, the old one or the new one. It has
    /// reached the disk when this returns.
    ///
    /// Files of more than [`MAX_BYTES`](Self::MAX_BYTES) need [`read_at_most`](Self::read_at_most). Permissions stay, and
    /// symbolic links are followed. A process that is killed while it writes leaves a file
    /// `.<name>.<letters>.tmp` beside it, which may be removed. Of two processes that write at once, the last one counts.
    ///
    /// # Errors
    /// [`StateError::Io`] if the folder or the file cannot be written, or the disk is full; the old file is as it was then, or,
    /// if only the folder could not be synchronized, replaced.
    /// [`StateError::TooLarge`] as in [`to_bytes`](Self::to_bytes).
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), StateError> {
        let (path, header) = (path.as_ref(), self.header()?);
        let written = atomic::replace(path, |file| {
            file.write_all(&header)?;
            let mut tensors = header::order(&self.tensors).into_iter();
            tensors.try_for_each(|(_, tensor)| file.write_all(tensor.data()))
        });
        let what = "name a file in a folder that can be written, on a disk with space";
        written.map_err(|error| failed(path, what, &error))
    }

    fn header(&self) -> Result<Vec<u8>, StateError> {
        let metadata = checksum::sealed(&self.metadata, &self.tensors);
        header::write(&metadata, &self.tensors)
    }

    /// The names of all tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The names that are not before this one.
    pub(super) fn names_from(&self, name: &str) -> impl Iterator<Item = &str> {
        let range = (Bound::Included(name), Bound::Unbounded);
        self.tensors
            .range::<str, _>(range)
            .map(|(name, _)| name.as_str())
    }

    /// A tensor.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Adds a tensor, or replaces the one of this name, which is returned.
    ///
    /// # Errors
    /// [`StateError::Name`] for the one name that the format keeps for itself.
    pub fn insert(
        &mut self,
        name: impl Into<String>,
        tensor: StoredTensor,
    ) -> Result<Option<StoredTensor>, StateError> {
        let name = name.into();
        if name == header::METADATA {
            return Err(StateError::Name {
                name,
                problem: "the format keeps this name for texts; use set_metadata",
            });
        }
        Ok(self.tensors.insert(name, tensor))
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<StoredTensor> {
        self.tensors.remove(name)
    }

    /// The texts of the file, by key. `wgpu-norm/layer/<prefix>` holds the settings of a layer.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Adds a text, or replaces the one of this key; `None` takes it out, as that of a layer whose tensors were removed.
    ///
    /// # Errors
    /// [`StateError::Name`] for a text under a key that begins with `wgpu-norm/`.
    pub fn set_metadata(
        &mut self,
        key: impl Into<String>,
        value: Option<String>,
    ) -> Result<(), StateError> {
        let key = key.into();
        if value.is_some() && key.starts_with(checksum::OURS) {
            return Err(StateError::Name {
                name: key,
                problem: "keys that begin with \"wgpu-norm/\" are the crate's; use another one",
            });
        }
        match value {
            Some(value) => self.metadata.insert(key, value),
            None => self.metadata.remove(&key),
        };
        Ok(())
    }
}

fn failed(path: &Path, what_to_do: &str, error: &io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        message: format!("{error}; {what_to_do}"),
    }
}

/// Memory for so many bytes.
fn reserved(bytes: usize) -> Result<Vec<u8>, StateError> {
    let mut memory = Vec::new();
    match memory.try_reserve_exact(bytes) {
        Ok(()) => Ok(memory),
        Err(_) => Err(StateError::OutOfMemory {
            bytes: bytes as u64,
        }),
    }
}

/// Reads a file of `total` bytes. Lengths are checked before memory is taken for what they promise.
fn parse(
    source: &mut impl Read,
    total: u64,
    unreadable: impl Fn(io::Error) -> StateError,
) -> Result<StateFile, StateError> {
    let length_is = |expected| StateError::Length {
        expected,
        got: total,
    };
    let mut read = |bytes: u64| -> Result<Vec<u8>, StateError> {
        let count = usize::try_from(bytes).map_err(|_| StateError::OutOfMemory { bytes })?;
        let mut memory = reserved(count)?;
        let got = source.take(bytes).read_to_end(&mut memory);
        match got.map_err(&unreadable)? == count {
            true => Ok(memory),
            // Another program has cut the file since its size was asked for.
            false => Err(length_is(total)),
        }
    };
    if total < header::LENGTH_BYTES {
        return Err(length_is(header::LENGTH_BYTES));
    }
    let length = read(header::LENGTH_BYTES)?;
    let length = u64::from_le_bytes(length.try_into().unwrap_or_default());
    if length > header::MAX_BYTES {
        return Err(StateError::Header {
            problem: format!("its length would be {length} bytes, so this is no safetensors file"),
        });
    }
    let data_begin = header::LENGTH_BYTES + length;
    if total < data_begin {
        return Err(length_is(data_begin));
    }
    let mut header = header::Header::parse(&read(length)?)?;
    let expected = data_begin.saturating_add(header.data_bytes());
    if total != expected {
        return Err(length_is(expected));
    }
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors {
        let (begin, end) = info.data_offsets;
        let data = read((end - begin) as u64)?;
        tensors.insert(name, StoredTensor::checked(info.dtype, info.shape, data));
    }
    checksum::verify(&mut header.metadata, &tensors)?;
    Ok(StateFile {
        tensors,
        metadata: header.metadata,
    })
}
