//! `add_sums.wgsl`: the sums of the parts of a batch, added.

use crate::gpu::program::Dispatch;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>, params: Params<S>) -> Dispatch<Params<S>> {
    planner.dispatch("add_sums", &[], &[], params)
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    run.add_sums();
}
