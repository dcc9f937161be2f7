#![doc = include_str!("sync.md")]

mod backward;
mod collective;
mod exchange;
mod forward;
mod group;
mod layer;
mod merge;
mod message;
#[cfg(feature = "mpi")]
mod mpi;
mod precise;
mod running;
mod saved;
mod threads;

pub use crate::batch_norm::{Gradients, Wanted};
pub use backward::BackwardPending;
pub use collective::Collective;
pub use forward::TrainPending;
pub use group::{Group, GroupOptions};
pub use layer::{Reduction, SyncBatchNorm};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use precise::PreciseStats;
pub use saved::{BackwardError, Saved};
pub use threads::Threads;
