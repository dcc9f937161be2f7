//! What synchronization needs of an engine that connects ranks.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use crate::error::SyncError;

/// Ranks that exchange bytes: processes or threads with a device each. [`Threads`](super::Threads) and, with the Cargo
/// feature `mpi`, `Mpi` implement it. Another engine implements five methods.
///
/// A call is collective: all ranks make it, in the same order, and it returns on all of them or fails. No call waits
/// beyond its deadline. After an error the ranks may not be in step any more, so from then on every call on that rank
/// returns the same error at once, and the others learn of it as soon as the engine can tell them.
pub trait Collective: Debug + Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks.
    fn size(&self) -> usize;

    /// The bytes of every rank, in the order of the ranks. They may have different lengths.
    ///
    /// # Errors
    /// [`SyncError::Timeout`], which names the ranks that did not come in time; [`SyncError::RankLost`];
    /// [`SyncError::GaveUp`] if another rank has had an error.
    fn all_gather(&self, bytes: &[u8], deadline: Instant) -> Result<Vec<Vec<u8>>, SyncError>;

    /// The bytes of the rank `root`. Those of the others are ignored.
    ///
    /// # Errors
    /// As [`all_gather`](Self::all_gather).
    fn broadcast(&self, root: usize, bytes: &[u8], deadline: Instant)
    -> Result<Vec<u8>, SyncError>;

    /// The ranks that gave the same `color`, in their order, as ranks of their own.
    ///
    /// # Errors
    /// As [`all_gather`](Self::all_gather).
    fn split(&self, color: u32, deadline: Instant) -> Result<Arc<dyn Collective>, SyncError>;
}

impl<C: Collective + ?Sized> Collective for Arc<C> {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn all_gather(&self, bytes: &[u8], deadline: Instant) -> Result<Vec<Vec<u8>>, SyncError> {
        (**self).all_gather(bytes, deadline)
    }

    fn broadcast(
        &self,
        root: usize,
        bytes: &[u8],
        deadline: Instant,
    ) -> Result<Vec<u8>, SyncError> {
        (**self).broadcast(root, bytes, deadline)
    }

    fn split(&self, color: u32, deadline: Instant) -> Result<Arc<dyn Collective>, SyncError> {
        (**self).split(color, deadline)
    }
}
