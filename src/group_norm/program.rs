//! The dispatches of forward and backward. Pure: no device is touched.

use super::config::GroupNormConfig;
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::Program;
use crate::norm::field::SAVED;
use crate::norm::kernels::backward_normalize::Means;
use crate::norm::kernels::finalize::{Combine, Finalized};
use crate::norm::kernels::{SUMS_FLOATS, backward_stats, finalize};
use crate::norm::options::Destination;
use crate::norm::partition::Over;
use crate::norm::planner::{Decisions, Norm, Planner};
use crate::norm::sample::{BackwardOptions, ForwardOptions, Params};
use crate::norm::tuning::{Strategy, Tuning};
use crate::norm::uniform::EpsSettings;
use crate::norm::{passes, sources};

/// GroupNorm's kernels: all of them are shared.
pub static NORM: Norm = Norm {
    name: "group_norm",
    sources: &[sources::SOURCES],
    settings: "settings_eps",
};

fn planner<'a>(
    caps: &'a Caps,
    problem: Problem,
    config: &GroupNormConfig,
    tuning: Tuning,
    over: Over,
) -> Result<Planner<'a, EpsSettings>, PlanError> {
    config.check()?;
    config.check_shape(problem.shape)?;
    let decisions = Decisions {
        over,
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
    Ok(planner)
}

/// The tensor divided into channels of samples, which share the statistics of their group.
fn channels<'a>(
    caps: &'a Caps,
    problem: Problem,
    config: &GroupNormConfig,
    tuning: Tuning,
) -> Result<Planner<'a, EpsSettings>, PlanError> {
    let mut planner = planner(caps, problem, config, tuning, Over::Instance)?;
    let in_group = config.channels_of_group();
    let groups = planner.partition.statistics() / in_group;
    let values = planner.partition.values_per_statistic() * in_group;
    planner.set_saved(groups, values);
    planner.set("GROUPED", true);
    Ok(planner)
}

/// Normalizes each group of channels of each sample, and saves the statistics.
pub fn forward(
    caps: &Caps,
    problem: Problem,
    config: &GroupNormConfig,
    options: ForwardOptions,
) -> Result<Program<Params>, PlanError> {
    let groups = Over::Groups(config.num_groups);
    let mut planner = planner(caps, problem, config, options.tuning, groups)?;
    passes::set_prenorm(&mut planner, options.prenorm)?;
    let split = !planner.is_empty() && planner.strategy(1, 0, true)? == Strategy::Split;
    let dispatches = if split {
        let mut dispatches = passes::moments(&mut planner, Finalized::Statistics)?;
        // Channels have one weight each, which lanes keep.
        let mut channels = channels(caps, problem, config, options.tuning)?;
        passes::set_prenorm(&mut channels, options.prenorm)?;
        channels.sum_is_written();
        dispatches.extend(passes::elementwise(&channels, Destination::OutOfPlace));
        dispatches
    } else {
        passes::forward(&mut planner)?
    };
    let needs = passes::forward_needs(&planner);
    planner.program(dispatches, needs)
}

/// The gradients of [`forward`], in passes over the channels of each sample. The weight is one for a channel, so that the
/// sums of a group and the gradients of the parameters are made of the same sums.
pub fn backward(
    caps: &Caps,
    problem: Problem,
    config: &GroupNormConfig,
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
    let mut planner = channels(caps, problem, config, tuning)?;
    let channels = planner.partition.statistics();
    let in_group = config.channels_of_group();
    let groups = channels / in_group;
    passes::set_dadded(&mut planner, prenorm, dx)?;
    let grads = passes::set_parameter_gradients(&mut planner, parameters);
    let coupled = dx.is_some() && !planner.is_empty();

    let mut dispatches = Vec::new();
    if grads || coupled || adds {
        planner.reserve_head(channels + groups, SUMS_FLOATS);
        let result = (grads || coupled).then(|| passes::unit_sums(&planner));
        dispatches.extend(passes::sums(
            &mut planner,
            backward_stats::dispatch,
            result,
        )?);
    }
    if grads {
        dispatches.extend(passes::add_units(&planner)?);
    }
    if let Some(dx) = dx.filter(|_| coupled) {
        let params = planner.combination(in_group.into(), groups)?;
        let sums = Finalized::GroupSums;
        dispatches.push(finalize::dispatch(&planner, Combine::Groups, sums, params));
        planner.set("WEIGHTED", true);
        dispatches.extend(passes::elementwise_backward(&planner, Means::Groups, dx));
    }
    let saved = planner.saved(SAVED);
    let needs = passes::backward_needs(&planner, saved, dx, grads, adds);
    planner.program(dispatches, needs)
}
