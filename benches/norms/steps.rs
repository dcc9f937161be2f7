//! Steps of the library, with buffers by name.

use wgpu::{Buffer, BufferSlice};
use wgpu_norm::BindError;
use wgpu_norm::batch_norm::{AffineRows, Plan, Step};

use crate::moved::Moved;
use crate::tensors::Tensors;

/// A plan, bound to each set of tensors.
pub struct Steps {
    pub steps: Vec<Step>,
    /// The name of each dispatch's kernel.
    pub kernels: Vec<&'static str>,
    /// Bytes of activations that each dispatch moves.
    pub moved: Vec<u64>,
    /// Bytes.
    pub scratch: u64,
}

impl Steps {
    /// Binds a plan to each set of tensors.
    pub fn new<K>(
        plan: &Plan<K>,
        tensors: &Tensors,
        bind: impl Fn(&Memory<'_>) -> Result<Step, BindError>,
    ) -> anyhow::Result<Self> {
        let scratch = plan.scratch_bytes();
        let steps = (0..tensors.sets.len()).map(|set| {
            bind(&Memory {
                tensors,
                set,
                scratch: tensors.scratch(scratch),
            })
        });
        let launches = plan.launches(Default::default());
        Ok(Self {
            steps: steps.collect::<Result<_, _>>()?,
            kernels: launches.iter().map(|launch| launch.entry_point).collect(),
            moved: launches
                .iter()
                .map(|launch| Moved::of(launch).bytes())
                .collect(),
            scratch,
        })
    }
}

/// The buffers of one step.
pub struct Memory<'a> {
    tensors: &'a Tensors,
    set: usize,
    scratch: Buffer,
}

impl<'a> Memory<'a> {
    pub fn slice(&self, name: &str) -> BufferSlice<'a> {
        self.tensors.buffer(self.set, name).slice(..)
    }

    /// A buffer that the plan needs only under a condition.
    pub fn slice_if(&self, needed: bool, name: &str) -> Option<BufferSlice<'a>> {
        needed.then(|| self.slice(name))
    }

    pub fn affine(&self, rows: AffineRows) -> Option<BufferSlice<'a>> {
        match (rows.weight.is_some(), rows.bias.is_some()) {
            (true, true) => Some(self.slice("affine")),
            (true, false) => Some(self.slice("weight")),
            (false, true) => Some(self.slice("bias")),
            (false, false) => None,
        }
    }

    pub fn scratch(&self) -> BufferSlice<'_> {
        self.scratch.slice(..)
    }
}
