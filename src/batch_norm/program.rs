//! The dispatches of training, evaluation and backward. Pure: no device is touched.

use super::config::BatchNormConfig;
use super::options::{BackwardOptions, EvalOptions, TrainOptions};
use super::policy::{Momentum, NonFinite, RunningVariance, SingleValue};
use super::settings::MomentumSettings;
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::compose::{Source, sources};
use crate::gpu::program::Program;
use crate::norm::field::{AFFINE, RESIDUAL, RUNNING, SAVED, X, Y};
use crate::norm::kernels::backward_normalize::Means;
use crate::norm::kernels::finalize::Finalized;
use crate::norm::kernels::{
    SUMS_FLOATS, backward_frozen, backward_reread, backward_resident, backward_stats,
};
use crate::norm::options::Destination;
use crate::norm::partition::Over;
use crate::norm::planner::{Decisions, Norm, Planner};
use crate::norm::tuning::{Strategy, Tuning};
use crate::norm::uniform;
use crate::norm::{passes, sources};

/// The files of `shaders/batch_norm`.
const SOURCES: &[Source] = sources!("batch_norm":
    combine_instances, result_running, result_statistics_or_running, running_moved, settings_momentum);

/// Rows of running statistics.
pub const RUNNING_ROWS: u64 = 4;

/// BatchNorm's kernels.
pub static NORM: Norm = Norm {
    name: "batch_norm",
    sources: &[sources::SOURCES, SOURCES],
    settings: "settings_momentum",
};

pub type Params = uniform::Params<MomentumSettings>;
pub type BatchPlanner<'a> = Planner<'a, MomentumSettings>;

/// The statistics that a plan normalizes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch's own, which also move the running ones if `track`.
    Batch {
        /// Whether they move the running statistics.
        track: bool,
    },
    /// The running ones, which nothing moves.
    Frozen,
    /// Those of a batch of which the tensor is a part.
    Shared,
}

pub fn planner<'a>(
    caps: &'a Caps,
    problem: Problem,
    config: &BatchNormConfig,
    tuning: Tuning,
    statistics: Statistics,
) -> Result<BatchPlanner<'a>, PlanError> {
    let shape = problem.shape;
    config.check()?;
    if shape.channels() != config.num_features {
        return Err(PlanError::Channels {
            expected: config.num_features,
            got: shape.channels(),
            shape,
        });
    }
    match statistics {
        Statistics::Batch { .. } => config.check_batch_statistics(shape)?,
        Statistics::Frozen if !config.track_running_stats => {
            return Err(PlanError::NoRunningStatistics);
        }
        Statistics::Frozen | Statistics::Shared => {}
    }
    let decisions = Decisions {
        over: Over::Batch,
        settings: MomentumSettings::new(config),
        weight: config.weight,
        bias: config.bias,
        samples: None,
        unit_offset: false,
        epilogue: config.epilogue,
        tuning,
    };
    let mut planner = Planner::new(&NORM, caps, problem, decisions)?;
    let moved = statistics == Statistics::Batch { track: true };
    let running = if moved {
        "running_moved"
    } else {
        "running_none"
    };
    planner.choose(("running", running));
    planner.set("CUMULATIVE", config.momentum == Momentum::Cumulative);
    planner.set("BIASED", config.running_variance == RunningVariance::Biased);
    planner.set("SKIP_NON_FINITE", config.non_finite != NonFinite::Propagate);
    let single = config.single_value;
    planner.set("SINGLE_VALUE_MOVES", single == SingleValue::Update);
    planner.set("SINGLE_VALUE_FROZEN", single == SingleValue::Running);
    let frozen = statistics == Statistics::Frozen;
    let stored = if frozen {
        "stored_running"
    } else {
        "stored_saved"
    };
    planner.choose(("stored_statistics", stored));
    // A channel is one unit, or a column of one.
    planner.choose(("unit_gradients", "unit_gradients_final"));
    Ok(planner)
}

/// Normalizes by the batch's own statistics, and saves them.
pub fn train(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    options: TrainOptions,
) -> Result<Program<Params>, PlanError> {
    let track = config.track_running_stats;
    by_batch(caps, problem, config, options.tuning, track)
}

/// Normalizes by the running statistics, or by the batch's own if none are tracked.
pub fn eval(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    options: EvalOptions,
) -> Result<Program<Params>, PlanError> {
    let EvalOptions { y, tuning } = options;
    if !config.track_running_stats {
        if y == Destination::InPlace {
            return Err(PlanError::Unsupported {
                field: "y",
                reason: "in place needs running statistics; those of the batch read x twice",
            });
        }
        return by_batch(caps, problem, config, tuning, false);
    }
    let planner = planner(caps, problem, config, tuning, Statistics::Frozen)?;
    let mut needs = vec![
        planner.activation(X),
        planner.statistics(RUNNING, RUNNING_ROWS),
    ];
    needs.extend((y == Destination::OutOfPlace).then(|| planner.activation(Y)));
    needs.extend(config.epilogue.adds().then(|| planner.activation(RESIDUAL)));
    needs.extend(planner.affine(AFFINE));
    planner.program(passes::elementwise(&planner, y), needs)
}

fn by_batch(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    tuning: Tuning,
    track: bool,
) -> Result<Program<Params>, PlanError> {
    let statistics = Statistics::Batch { track };
    let mut planner = planner(caps, problem, config, tuning, statistics)?;
    let dispatches = passes::forward(&mut planner)?;
    let mut needs = vec![
        planner.activation(X),
        planner.activation(Y),
        planner.statistics(SAVED, 3),
    ];
    needs.extend(config.epilogue.adds().then(|| planner.activation(RESIDUAL)));
    needs.extend(track.then(|| planner.statistics(RUNNING, RUNNING_ROWS)));
    needs.extend(planner.affine(AFFINE));
    planner.program(dispatches, needs)
}

/// The gradients of [`train`], or of [`eval`] by running statistics if frozen.
pub fn backward(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    options: BackwardOptions,
) -> Result<Program<Params>, PlanError> {
    let BackwardOptions {
        frozen,
        dx,
        parameters,
        tuning,
    } = options;
    let adds = config.epilogue.adds();
    passes::check_wanted(dx, parameters, adds)?;
    let statistics = if frozen {
        Statistics::Frozen
    } else {
        Statistics::Batch { track: false }
    };
    let mut planner = planner(caps, problem, config, tuning, statistics)?;
    let grads = passes::set_parameter_gradients(&mut planner, parameters);

    // Running statistics do not couple the gradients of a channel, so that dx alone needs no sums. The pass that sums
    // also writes the residual's gradient.
    let coupled = dx.is_some() && !frozen && !planner.is_empty();
    let sums = grads || coupled || adds;
    // dx written while other lanes still read dy needs vectors that no two units share.
    let at_once =
        frozen && !adds && (dx != Some(Destination::InPlace) || !planner.partition.masked);
    let alone = sums && !frozen && !adds && !planner.is_empty();
    let mut dispatches = Vec::new();
    let can_hold = dx.is_some() && alone && planner.epilogue.masks();
    match (dx, planner.strategy(2, 0, can_hold)?) {
        (Some(dx), Strategy::Resident) if can_hold => {
            dispatches.push(backward_resident::dispatch(&planner, dx));
        }
        (Some(dx), Strategy::Resident | Strategy::Reread) if alone => {
            dispatches.push(backward_reread::dispatch(&planner, dx));
        }
        _ => {
            if sums {
                planner.reserve_head(planner.partition.statistics(), SUMS_FLOATS);
                let dispatch = |planner: &BatchPlanner<'_>, params| match dx {
                    Some(dx) if at_once => backward_frozen::dispatch(planner, dx, params),
                    _ => backward_stats::dispatch(planner, params),
                };
                let result = (grads || coupled).then_some(Finalized::Gradients);
                dispatches.extend(passes::sums(&mut planner, dispatch, result)?);
            }
            if let Some(dx) = dx.filter(|_| !(sums && at_once)) {
                let means = if frozen { Means::None } else { Means::Scratch };
                dispatches.extend(passes::elementwise_backward(&planner, means, dx));
            }
        }
    }
    let statistics = match frozen {
        true => planner.statistics(RUNNING, 2),
        false => planner.statistics(SAVED, 3),
    };
    let needs = passes::backward_needs(&planner, statistics, dx, grads, adds);
    planner.program(dispatches, needs)
}
