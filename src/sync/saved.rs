//! What a forward pass over several ranks leaves for backward.

use crate::batch_norm;
use crate::error::Error;

/// What a forward pass leaves for its backward pass, which consumes it. It belongs to one step of the layer, so that
/// any number of forward passes may come before the first backward pass: all ranks go back through the same one.
#[derive(Debug)]
#[must_use = "backward needs it, on all ranks; use eval if there is no backward"]
pub struct Saved {
    pub(super) inner: batch_norm::Saved,
    /// The step of the layer whose statistics it holds; `None` if they are of this rank alone.
    pub(super) step: Option<u64>,
}

impl Saved {
    /// Of statistics that the other ranks have no part in.
    pub(super) fn of_rank(inner: batch_norm::Saved) -> Self {
        Self { inner, step: None }
    }

    /// Gives the value back with the reason why backward was refused.
    pub(super) fn refused(self, error: Error) -> BackwardError {
        BackwardError {
            saved: Box::new(self),
            error,
        }
    }

    /// The bytes of device memory that it holds until backward; see
    /// [`batch_norm::Saved::held_bytes`](crate::batch_norm::Saved::held_bytes).
    pub fn held_bytes(&self) -> u64 {
        self.inner.held_bytes()
    }
}

/// A backward pass over several ranks that was refused.
pub type BackwardError = batch_norm::BackwardError<Saved>;
