//! The dispatches of forward and backward. Pure: no device is touched.

use super::config::InstanceNormConfig;
use super::options::{BackwardOptions, ForwardOptions};
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::Program;
use crate::norm::field::{AFFINE, DRESIDUAL, DX, DY, GRADS, OUTPUT, RESIDUAL, SAVED, X, Y};
use crate::norm::kernels::backward_normalize::Means;
use crate::norm::kernels::finalize::{Combine, Finalized};
use crate::norm::kernels::{
    MOMENTS_FLOATS, SUMS_FLOATS, backward_normalize, backward_reread, backward_resident,
    backward_stats, finalize, forward_reread, forward_resident, normalize, stats,
};
use crate::norm::options::{Destination, ParameterGradients};
use crate::norm::partition::Over;
use crate::norm::planner::{Decisions, Norm, Planner};
use crate::norm::sources;
use crate::norm::tuning::{Strategy, Tuning};
use crate::norm::uniform::{self, EpsSettings};

/// InstanceNorm's kernels: all of them are shared.
pub static NORM: Norm = Norm {
    name: "instance_norm",
    sources: &[sources::SOURCES],
    settings: "settings_eps",
};

pub type Params = uniform::Params<EpsSettings>;

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
        epilogue: config.epilogue,
        tuning,
    };
    let mut planner = Planner::new(&NORM, caps, problem, decisions)?;
    planner.choose(("running", "running_none"));
    planner.choose(("stored_statistics", "stored_saved"));
    // The samples share the parameters of a channel.
    planner.choose(("unit_gradients", "unit_gradients_to_scratch"));
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
    let mut dispatches = Vec::new();
    match planner.strategy(1)? {
        _ if planner.is_empty() => {}
        Strategy::Resident => dispatches.push(forward_resident::dispatch(&planner)),
        Strategy::Reread => dispatches.push(forward_reread::dispatch(&planner)),
        Strategy::Split => {
            let (reduction, params) = planner.reduction(MOMENTS_FLOATS, stats::dispatch)?;
            dispatches.extend(reduction);
            let statistics = Finalized::Statistics;
            dispatches.push(finalize::dispatch(
                &planner,
                Combine::Chunks,
                statistics,
                params,
            ));
            let normalize = |params| normalize::dispatch(&planner, Destination::OutOfPlace, params);
            dispatches.extend(planner.windows().into_iter().map(normalize));
        }
    }
    let mut needs = vec![
        planner.activation(X),
        planner.activation(Y),
        planner.statistics(SAVED, 3),
    ];
    needs.extend(planner.affine(AFFINE));
    needs.extend(config.epilogue.adds().then(|| planner.activation(RESIDUAL)));
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
    } = options;
    let adds = config.epilogue.adds();
    if dx.is_none() && parameters == ParameterGradients::Skip && !adds {
        return Err(PlanError::Unsupported {
            field: "dx and parameters",
            reason: "no gradient is wanted; leave the backward pass out",
        });
    }
    let mut planner = planner(caps, problem, config, tuning)?;
    let grads = planner.has_parameters() && parameters != ParameterGradients::Skip;
    planner.set("PARAMETER_GRADIENTS", grads);
    planner.set("ACCUMULATE", parameters == ParameterGradients::Accumulate);
    let coupled = dx.is_some() && !planner.is_empty();
    let mut dispatches = Vec::new();
    if grads || coupled || adds {
        planner.reserve_head(SUMS_FLOATS);
    }
    match (dx, planner.strategy(2)?) {
        (Some(dx), Strategy::Resident) if coupled && !adds => {
            dispatches.push(backward_resident::dispatch(&planner, dx));
        }
        (Some(dx), Strategy::Reread) if coupled && !adds => {
            dispatches.push(backward_reread::dispatch(&planner, dx));
        }
        _ => {
            if grads || coupled || adds {
                let (reduction, params) =
                    planner.reduction(SUMS_FLOATS, backward_stats::dispatch)?;
                dispatches.extend(reduction);
                if grads || coupled {
                    let sums = Finalized::UnitSums;
                    dispatches.push(finalize::dispatch(&planner, Combine::Chunks, sums, params));
                }
            }
            if let Some(dx) = dx {
                let normalize =
                    |params| backward_normalize::dispatch(&planner, Means::Scratch, dx, params);
                dispatches.extend(planner.windows().into_iter().map(normalize));
            }
        }
    }
    if grads {
        // The sums of all instances wait at the head of scratch memory.
        let parameters = planner.partition.parameters;
        let instances = planner.partition.statistics() / parameters;
        let params = planner.combination(instances.into(), parameters)?;
        let gradients = Finalized::ParameterGradients;
        dispatches.push(finalize::dispatch(
            &planner,
            Combine::Units,
            gradients,
            params,
        ));
    }
    let mut needs = vec![
        planner.activation(X),
        planner.activation(DY),
        planner.statistics(SAVED, 3),
    ];
    needs.extend(planner.affine(AFFINE));
    needs.extend((dx == Some(Destination::OutOfPlace)).then(|| planner.activation(DX)));
    if grads {
        needs.extend(planner.affine(GRADS));
    }
    if adds {
        needs.extend([planner.activation(OUTPUT), planner.activation(DRESIDUAL)]);
    }
    planner.program(dispatches, needs)
}
