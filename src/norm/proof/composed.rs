//! Composed kernels, kept: many cases differ in constants only.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::gpu::compose::{Choice, Composed};
use crate::gpu::program::{Dispatch, Program, Uniform};

/// What was composed, by kernel and files.
#[derive(Default)]
pub struct ComposedKernels(HashMap<(&'static str, Vec<Choice>), Composed>);

impl ComposedKernels {
    /// The kernel of a dispatch.
    pub fn of<U: Uniform>(&mut self, program: &Program<U>, dispatch: &Dispatch<U>) -> &Composed {
        let kernel = &dispatch.kernel;
        match self.0.entry((kernel.name, kernel.choices.clone())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let composed = program.composed(dispatch);
                new.insert(composed.unwrap_or_else(|error| panic!("{kernel:?}: {error}")))
            }
        }
    }
}
