//! The dispatches of forward and backward. Pure: no device is touched.

use super::config::InstanceNormConfig;
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::compose::{Source, sources};
use crate::gpu::program::Program;
use crate::norm::field::{MOMENT_ROWS, MOMENTS, SAVED};
use crate::norm::kernels::backward_normalize::Means;
use crate::norm::kernels::{SUMS_FLOATS, backward_reread, backward_resident, backward_stats};
use crate::norm::partition::Over;
use crate::norm::planner::{Decisions, Norm, Planner};
use crate::norm::sample::{BackwardOptions, ForwardOptions, Params};
use crate::norm::tuning::{Strategy, Tuning};
use crate::norm::uniform::EpsSettings;
use crate::norm::{passes, sources};

/// The files of `shaders/instance_norm`.
const SOURCES: &[Source] = sources!("instance_norm": running_instances);

/// InstanceNorm's kernels.
pub static NORM: Norm = Norm {
    name: "instance_norm",
    sources: &[sources::SOURCES, SOURCES],
    settings: "settings_eps",
};

fn planner<'a>(
    caps: &'a Caps,
    problem: Problem,
    config: &InstanceNormConfig,
    tuning: Tuning,
) -> Result<Planner<'a, EpsSettings>, PlanError> {
    config.check()?;
    config.check_shape(problem.shape)?;
    let decisions = Decisions {
        over: Over::Instance,
        settings: EpsSettings { eps: config.eps },
        weight: config.weight,
        bias: config.bias,
        samples: config.per_sample.then(|| problem.shape.batch()),
        unit_offset: config.unit_offset,
        epilogue: config.epilogue,
        tuning,
    };
    let mut planner = Planner::new(&NORM, caps, problem, decisions)?;
    planner.choose(("running", "running_none"));
    planner.choose(("stored_statistics", "stored_saved"));
    // Unless a channel has parameters of its own in each sample, or there is one sample, the samples' sums are to be added.
    let unit_gradients = match planner.partition.same_index() {
        true => "unit_gradients_final",
        false => "unit_gradients_to_scratch",
    };
    planner.choose(("unit_gradients", unit_gradients));
    Ok(planner)
}

/// Normalizes each channel of each sample, and saves the statistics.
pub fn forward(
    caps: &Caps,
    problem: Problem,
    config: &InstanceNormConfig,
    options: ForwardOptions,
) -> Result<Program<Params>, PlanError> {
    let mut planner = planner(caps, problem, config, options.tuning)?;
    let track = config.track_running_stats;
    if track {
        planner.choose(("running", "running_instances"));
    }
    passes::set_prenorm(&mut planner, options.prenorm)?;
    let dispatches = passes::forward(&mut planner)?;
    let mut needs = passes::forward_needs(&planner);
    needs.extend(track.then(|| planner.statistics(MOMENTS, MOMENT_ROWS)));
    planner.program(dispatches, needs)
}

/// The gradients of [`forward`].
pub fn backward(
    caps: &Caps,
    problem: Problem,
    config: &InstanceNormConfig,
    options: BackwardOptions,
) -> Result<Program<Params>, PlanError> {
    let BackwardOptions {
        dx,
        parameters,
        tuning,
        prenorm,
    } = options;
    let adds = config.epilogue.adds();
    passes::check_wanted(dx, parameters, adds)?;
    let mut planner = planner(caps, problem, config, tuning)?;
    passes::set_dadded(&mut planner, prenorm, dx)?;
    let grads = passes::set_parameter_gradients(&mut planner, parameters);
    let coupled = dx.is_some() && !planner.is_empty();
    let mut dispatches = Vec::new();
    let can_hold = coupled && !adds && planner.epilogue.masks();
    let strategy = planner.strategy(2, 0, can_hold)?;
    let whole_units = coupled && !adds && strategy != Strategy::Split;
    // Sums wait there for dx, or for those of the other samples.
    if (grads || coupled || adds) && !(whole_units && planner.partition.same_index()) {
        planner.reserve_head(planner.partition.statistics(), SUMS_FLOATS);
    }
    match (dx, strategy) {
        (Some(dx), Strategy::Resident) if can_hold => {
            dispatches.push(backward_resident::dispatch(&planner, dx));
        }
        (Some(dx), _) if whole_units => {
            dispatches.push(backward_reread::dispatch(&planner, dx));
        }
        _ => {
            if grads || coupled || adds {
                let result = (grads || coupled).then(|| passes::unit_sums(&planner));
                let sums = passes::sums(&mut planner, backward_stats::dispatch, result)?;
                dispatches.extend(sums);
            }
            if let Some(dx) = dx {
                dispatches.extend(passes::elementwise_backward(&planner, Means::Scratch, dx));
            }
        }
    }
    if grads {
        dispatches.extend(passes::add_units(&planner)?);
    }
    let saved = planner.saved(SAVED);
    let needs = passes::backward_needs(&planner, saved, dx, grads, adds);
    planner.program(dispatches, needs)
}
