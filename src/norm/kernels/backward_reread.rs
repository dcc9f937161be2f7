//! `backward_reread.wgsl`: the whole backward pass of one unit, and of several rows the sums of their columns.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

pub fn dispatch<S: Settings>(planner: &Planner<'_, S>, dx: Destination) -> Dispatch<Params<S>> {
    dispatch_with(planner, dx, planner.whole(), "row_gradients_none")
}

/// Each lane leaves the gradients of the parameters, too. `params` are those of [`Planner::rows_side_by_side`].
pub fn dispatch_with_row_gradients<S: Settings>(
    planner: &Planner<'_, S>,
    dx: Destination,
    params: Params<S>,
) -> Dispatch<Params<S>> {
    dispatch_with(planner, dx, params, "row_gradients_to_scratch")
}

fn dispatch_with<S: Settings>(
    planner: &Planner<'_, S>,
    dx: Destination,
    params: Params<S>,
    row_gradients: &'static str,
) -> Dispatch<Params<S>> {
    let [incoming, epilogue] = planner.incoming();
    let choices = [
        super::SUMS,
        planner.partition.exchange(),
        dx.dx(),
        incoming,
        epilogue,
        ("row_gradients", row_gradients),
    ];
    planner.dispatch("backward_reread", &choices, &[], params)
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let sums = lanes
            .iter()
            .map(|range| run.accumulate_sums(range))
            .collect();
        run.leave_row_gradients(work, &lanes);
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
