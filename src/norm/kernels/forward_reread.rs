//! `forward_reread.wgsl`: the whole forward pass of one unit.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>) -> Dispatch<Params<S>> {
    let choices = [
        super::MOMENTS,
        planner.partition.exchange(),
        Destination::OutOfPlace.y(),
        planner.epilogue.forward(),
    ];
    planner.dispatch("forward_reread", &choices, &[], planner.whole())
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
        let totals = run.reduce(moments);
        for (range, totals) in lanes.iter().zip(&totals) {
            for (j, component, index) in run.own_statistics(range) {
                run.write_statistics(index, &totals[j], component);
            }
        }
        for (range, totals) in lanes.iter().zip(totals.iter().cycle()) {
            run.apply(range, |run, j, indices| {
                let statistics = run.statistics_of(&totals[j as usize]);
                run.coefficients(indices.parameters, statistics)
            });
        }
    }
}
