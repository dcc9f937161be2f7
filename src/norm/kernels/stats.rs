//! `stats.wgsl`: the moments of one chunk of one unit.

use crate::gpu::program::Dispatch;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>, params: Params<S>) -> Dispatch<Params<S>> {
    let choices = [super::MOMENTS, planner.partition.exchange()];
    planner.dispatch("stats", &choices, &[], params)
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        lanes.iter().for_each(|range| run.write_added(range));
        let moments = lanes
            .iter()
            .map(|range| run.accumulate_moments(range))
            .collect();
        run.store_partials(work, moments);
    }
}
