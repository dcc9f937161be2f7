//! `backward_stats.wgsl`: the sums of one chunk of one unit.

use crate::gpu::program::Dispatch;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>, params: Params<S>) -> Dispatch<Params<S>> {
    let [incoming, epilogue] = planner.incoming();
    let choices = [
        super::SUMS,
        planner.partition.exchange(),
        incoming,
        epilogue,
    ];
    planner.dispatch("backward_stats", &choices, &[], params)
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let sums = lanes
            .iter()
            .map(|range| run.accumulate_sums(range))
            .collect();
        run.store_partials(work, sums);
        lanes.iter().for_each(|range| run.write_dresidual(range));
    }
}
