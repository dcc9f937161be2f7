//! `finalize.wgsl`: the partial results of each statistic, or parameter, combined into what they make.

use crate::gpu::program::Dispatch;
use crate::norm::planner::Planner;
use crate::norm::uniform::{Params, Settings};

/// What is combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    /// The partial results of a pass over memory.
    Chunks,
    /// The moments of the parts of a batch.
    Parts,
    /// The moments of the instances of a channel.
    Instances,
    /// The sums of the units that share a parameter.
    Units,
    /// The sums of the channels of a group, each times its weight.
    Groups,
}

/// What the combined moments or sums make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalized {
    /// Moments make saved and running statistics.
    Statistics,
    /// The same, except that running statistics stand in for those of a single value.
    StatisticsOrRunning,
    /// Moments stay moments.
    Moments,
    /// Sums of moments make averages, which move running statistics.
    Running,
    /// Sums make parameter gradients, and wait in scratch memory for the pass that writes dx.
    Gradients,
    /// Sums wait in scratch memory, for that pass and for their combination over units.
    UnitSums,
    /// Sums of groups wait behind those of channels, for the pass that writes dx.
    GroupSums,
    /// Sums make parameter gradients.
    ParameterGradients,
    /// Sums stay sums.
    Sums,
}

pub fn dispatch<S: Settings>(
    planner: &Planner<'_, S>,
    combine: Combine,
    result: Finalized,
    params: Params<S>,
) -> Dispatch<Params<S>> {
    let combine = match combine {
        Combine::Chunks => "combine_chunks",
        Combine::Parts => "combine_parts",
        Combine::Instances => "combine_instances",
        Combine::Units => "combine_units",
        Combine::Groups => "combine_groups",
    };
    let (monoid, file) = match result {
        Finalized::Statistics => (super::MOMENTS, "result_statistics"),
        Finalized::StatisticsOrRunning => (super::MOMENTS, "result_statistics_or_running"),
        Finalized::Moments => (super::MOMENTS, "result_moments"),
        Finalized::Running => (super::SUMS, "result_running"),
        Finalized::Gradients | Finalized::UnitSums => (super::SUMS, "result_gradients"),
        Finalized::GroupSums => (super::SUMS, "result_group_sums"),
        Finalized::ParameterGradients => (super::SUMS, "result_parameter_gradients"),
        Finalized::Sums => (super::SUMS, "result_sums"),
    };
    let choices = [
        monoid,
        // The four components of a lane are of one statistic.
        ("exchange", "exchange_folded"),
        ("combine", combine),
        // Groups load the weights of four channels, which need not be neighbours.
        ("affine_row", "affine_values"),
        ("result", file),
    ];
    let unit_sums = [("PARAMETER_GRADIENTS", 0)];
    // The four components of a lane are of four channels.
    let group_sums = [("PARAMETERS_SHARE", 0)];
    let constants: &[_] = match result {
        Finalized::UnitSums => &unit_sums,
        Finalized::GroupSums => &group_sums,
        _ => &[],
    };
    planner.dispatch("finalize", &choices, constants, params)
}

#[cfg(test)]
pub fn twin<S: Settings>(run: &mut crate::norm::twin::Run<'_, S>) {
    use crate::norm::twin::moments::Moments4;
    use crate::norm::twin::sums::Sums4;

    if run.has_choice(super::MOMENTS) {
        for (index, total) in run.combined::<Moments4>() {
            run.write_moments(index, &total);
        }
    } else {
        for (index, total) in run.combined::<Sums4>() {
            run.write_sums(index, &total);
        }
    }
}
