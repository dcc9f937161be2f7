//! State files: parameters and running statistics of layers in safetensors files, under torch's names or others'.
//!
//! ```no_run
//! use wgpu_norm::state::{LoadOptions, StateFile};
//! use wgpu_norm::{BatchNormConfig, Gpu, LayerNormConfig};
//!
//! let gpu = Gpu::open()?;
//! let mut bn = BatchNormConfig::new(64).build(&gpu)?;
//! let mut ln = LayerNormConfig::new(768).build(&gpu)?;
//! let mut file = StateFile::read("model.safetensors")?; // or StateFile::new()
//! file.load(&mut [("layer1.bn1", &mut bn), ("head.norm", &mut ln)], &LoadOptions::default())?;
//! // ... train ...
//! file.save("layer1.bn1", &bn)?; // the file's other tensors stay as they are
//! file.save("head.norm", &ln)?;
//! file.write("model.safetensors")?; // a kill in between leaves the old file
//! # Ok::<(), wgpu_norm::Error>(())
//! ```
//!
//! Without a device, [`StateFile::state`] and [`StateFile::insert_state`] do the same for a configuration and a
//! [`State`](crate::batch_norm::State).
//!
//! # What is in a file
//!
//! * Rows of f32. F16, BF16 and F64 are read too. Running statistics are never written below f32: a small variance would become 0.
//! * `num_batches_tracked`, a single I64. Where it is missing it counts as 0. A cumulative average needs it: without it, a
//!   strict load is an error.
//! * The batches that channels have skipped because they were not finite, in the metadata (`wgpu-norm/skipped/<prefix>`).
//! * `__metadata__` with the settings of each layer (`wgpu-norm/layer/<prefix>`: norm, eps, momentum, groups), which are compared
//!   on loading; a CRC-32 of each tensor (`wgpu-norm/crc32/<name>`); and one of all that the header says
//!   (`wgpu-norm/header-crc32`). Files of others, without these, are read as they are.
//!
//! Training goes on from a file with the same bits as without the break.
//!
//! # Names of other systems
//!
//! [`Naming`] has torch, Keras, Flax, burn, candle, and names of old files. Names are mapped, numbers are not: see there for
//! the running variance, which some keep biased.

mod atomic;
mod checksum;
mod file;
mod header;
mod layers;
mod load;
mod naming;
mod norms;
mod place;
mod save;
mod settings;
mod skipped;
mod tensor;

pub use file::StateFile;
pub use layers::Stateful;
pub use load::{LoadOptions, LoadReport};
pub use naming::{Key, Naming};
pub use norms::{Described, Field, Norm};
pub use tensor::StoredTensor;

/// The crate of the type [`safetensors::Dtype`] of [`StoredTensor::new`].
pub use safetensors;
