//! `backward_resident.wgsl`: the whole backward pass of one unit, held in registers.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>, dx: Destination) -> Dispatch<Params<S>> {
    let params = planner.resident();
    let [incoming, epilogue] = planner.incoming();
    let choices = [
        super::SUMS,
        planner.partition.exchange(),
        dx.dx(),
        incoming,
        epilogue,
    ];
    let constants = [super::register_vectors(&params.geometry)];
    planner.dispatch("backward_resident", &choices, &constants, params)
}

/// Registers make no difference to the numbers.
#[cfg(test)]
pub use super::backward_reread::twin;
