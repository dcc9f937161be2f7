//! `normalize.wgsl`: y from statistics that an earlier pass left.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(
    planner: &Planner<'_, S>,
    y: Destination,
    params: Params<S>,
) -> Dispatch<Params<S>> {
    let choices = [y.y(), planner.epilogue.forward()];
    planner.dispatch("normalize", &choices, &[], params)
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    for work in 0..run.groups() {
        for range in run.lanes(work) {
            run.apply(&range, |run, _, indices| run.stored_coefficients(indices));
        }
    }
}
