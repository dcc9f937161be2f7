//! `backward_reread.wgsl`: the whole backward pass of one unit.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>, dx: Destination) -> Dispatch<Params<S>> {
    let [incoming, epilogue] = planner.incoming();
    let choices = [
        super::SUMS,
        planner.partition.exchange(),
        dx.dx(),
        incoming,
        epilogue,
    ];
    planner.dispatch("backward_reread", &choices, &[], planner.whole())
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let sums = lanes
            .iter()
            .map(|range| run.accumulate_sums(range))
            .collect();
        let totals = run.reduce(sums);
        for (range, totals) in lanes.iter().zip(&totals) {
            for (j, component, index) in run.own_statistics(range) {
                run.write_unit_gradients(index, &totals[j], component);
            }
        }
        for (range, totals) in lanes.iter().zip(totals.iter().cycle()) {
            run.backward_apply(range, |run, j, indices| {
                run.with_means(indices, run.means_of(&totals[j as usize]))
            });
        }
    }
}
