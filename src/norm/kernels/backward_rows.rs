//! `backward_rows.wgsl`: dx of rows, and the sums of some of their columns, in one pass over memory.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

/// `params` are those of [`Planner::rows_at_once`].
pub fn dispatch<S: Settings>(
    planner: &Planner<'_, S>,
    dx: Destination,
    params: Params<S>,
) -> Dispatch<Params<S>> {
    let [incoming, epilogue] = planner.incoming();
    let choices = [
        super::SUMS,
        planner.partition.exchange(),
        dx.dx(),
        incoming,
        epilogue,
    ];
    let constants = [
        super::register_vectors(&params.geometry),
        // Samples with parameters of their own are outer groups.
        ("OUTER", planner.partition.parameters_per_sample().into()),
    ];
    let geometry = params.geometry;
    let samples = geometry.units / geometry.outer_units;
    Dispatch {
        groups: samples * geometry.outer_shares(),
        ..planner.dispatch("backward_rows", &choices, &constants, params)
    }
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    let geometry = run.params().geometry;
    for work in 0..run.groups() {
        run.clear_row_gradients(work);
        let outer = work / geometry.outer_shares();
        let first = outer * geometry.outer_units + work % geometry.outer_shares() * geometry.share;
        let end = (first + geometry.share).min((outer + 1) * geometry.outer_units);
        for unit in first..end {
            let lanes = run.lanes(unit);
            let sums = lanes
                .iter()
                .map(|range| run.accumulate_sums(range))
                .collect();
            for (lane, range) in lanes.iter().enumerate() {
                run.add_row_gradients(work * geometry.width + lane as u32 % geometry.width, range);
            }
            let totals = run.reduce(sums);
            for (range, totals) in lanes.iter().zip(totals.iter().cycle()) {
                run.backward_apply(range, |run, j, indices| {
                    run.with_means(indices, run.means_of(&totals[j as usize]))
                });
            }
        }
    }
}
