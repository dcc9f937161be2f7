//! `backward_normalize.wgsl`: dx from statistics and sums that earlier passes left.

use crate::gpu::program::Dispatch;
use crate::norm::options::Destination;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

/// Where the means that dx needs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// At the head of scratch memory, as sums.
    Scratch,
    /// Behind those, as sums of groups.
    Groups,
    /// In sums with their count.
    Sums,
    /// Nowhere: frozen statistics need none.
    None,
}

/// The first backward kernel of an epilogue that adds has left the gradient in `dresidual`.
pub fn dispatch<S: Settings>(
    planner: &Planner<'_, S>,
    means: Means,
    dx: Destination,
    params: Params<S>,
) -> Dispatch<Params<S>> {
    let means = match means {
        Means::Scratch => "means_from_scratch",
        Means::Groups => "means_from_groups",
        Means::Sums => "means_from_sums",
        Means::None => "means_none",
    };
    let [incoming, epilogue] = planner.epilogue.backward_again();
    let choices = [("means", means), dx.dx(), incoming, epilogue];
    planner.dispatch("backward_normalize", &choices, &[], params)
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    for work in 0..run.groups() {
        for range in run.lanes(work) {
            run.backward_apply(&range, |run, _, indices| {
                run.stored_coefficients_with_means(indices)
            });
        }
    }
}
