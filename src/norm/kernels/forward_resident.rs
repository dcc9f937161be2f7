//! `forward_resident.wgsl`: the whole forward pass of one unit, held in registers.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>) -> Dispatch<Params<S>> {
    let params = planner.resident();
    let choices = [
        super::MOMENTS,
        planner.partition.exchange(),
        Destination::OutOfPlace.y(),
        planner.epilogue.forward(),
    ];
    let constants = [super::register_vectors(&params.geometry)];
    planner.dispatch("forward_resident", &choices, &constants, params)
}

/// Registers make no difference to the numbers.
#[cfg(test)]
pub use super::forward_reread::twin;
