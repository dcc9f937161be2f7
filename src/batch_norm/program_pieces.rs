//! The dispatches of the pieces that BatchNorm is made of, each a program of its own. Pure, as `program`.

use super::config::BatchNormConfig;
use super::options::PieceOptions;
use super::policy::SingleValue;
use super::program::{BatchPlanner, Params, RUNNING_ROWS, Statistics, planner};
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::{Need, Program};
use crate::norm::field::{
    AFFINE, DRESIDUAL, DX, DY, MOMENT_ROWS, MOMENTS, OUTPUT, PARTS, RESIDUAL, RUNNING, SAVED, SUMS,
    X, Y,
};
use crate::norm::kernels::backward_normalize::Means;
use crate::norm::kernels::finalize::{Combine, Finalized};
use crate::norm::kernels::{add_sums, backward_stats, finalize};
use crate::norm::options::Destination;
use crate::norm::partition::MAX_ROUNDS;
use crate::norm::passes;
use crate::norm::tuning::Tuning;
use crate::shape::Shape;

/// Rows of sums.
const SUM_ROWS: u64 = 3;

/// The moments of `x`, which do not depend on the parameters.
pub fn stats(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    options: PieceOptions,
) -> Result<Program<Params>, PlanError> {
    let mut planner = planner(caps, problem, config, options.tuning, Statistics::Shared)?;
    let dispatches = passes::moments(&mut planner, Finalized::Moments)?;
    let needs = vec![
        planner.activation(X),
        planner.statistics(MOMENTS, MOMENT_ROWS),
    ];
    planner.program(dispatches, needs)
}

/// A planner of kernels that visit no values and read no parameters.
fn without_values<'a>(
    caps: &'a Caps,
    config: &BatchNormConfig,
    statistics: Statistics,
) -> Result<BatchPlanner<'a>, PlanError> {
    let nothing = Shape::nc(0, config.num_features).into();
    planner(caps, nothing, config, Tuning::default(), statistics)
}

/// `parts` sets of `rows` rows, each beginning where the device can bind it, and the floats from one to the next.
fn parts(caps: &Caps, planner: &BatchPlanner<'_>, rows: u64, parts: u32) -> (Need, u32) {
    let part = planner.statistics(PARTS, rows);
    let stride = caps.align(part.bytes);
    let gaps = stride.saturating_mul(u64::from(parts.max(1)) - 1);
    let bytes = if parts == 0 {
        0
    } else {
        gaps.saturating_add(part.bytes)
    };
    let need = Need { bytes, ..part };
    // No device has memory for a longer stride, and `program` returns that error.
    (need, (stride / 4).try_into().unwrap_or(u32::MAX))
}

/// The moments of several parts become those of the whole.
pub fn combine(
    caps: &Caps,
    config: &BatchNormConfig,
    count: u32,
) -> Result<Program<Params>, PlanError> {
    let planner = without_values(caps, config, Statistics::Shared)?;
    let (parts, stride) = parts(caps, &planner, MOMENT_ROWS, count);
    let params = planner.combination(count.into(), planner.partition.statistics())?;
    let params = BatchPlanner::with_parts(params, count, stride);
    let dispatch = finalize::dispatch(&planner, Combine::Parts, Finalized::Moments, params);
    let moments = planner.statistics(MOMENTS, MOMENT_ROWS);
    planner.program(vec![dispatch], vec![parts, moments])
}

/// The moments of several parts become statistics.
pub fn finalize(
    caps: &Caps,
    config: &BatchNormConfig,
    count: u32,
) -> Result<Program<Params>, PlanError> {
    let track = config.track_running_stats;
    let planner = without_values(caps, config, Statistics::Batch { track })?;
    let (parts, stride) = parts(caps, &planner, MOMENT_ROWS, count);
    let params = planner.combination(count.into(), planner.partition.statistics())?;
    let params = BatchPlanner::with_parts(params, count, stride);
    let result = match config.single_value {
        SingleValue::Running => Finalized::StatisticsOrRunning,
        _ => Finalized::Statistics,
    };
    let dispatch = finalize::dispatch(&planner, Combine::Parts, result, params);
    let mut needs = vec![parts, planner.statistics(SAVED, 3)];
    needs.extend(track.then(|| planner.statistics(RUNNING, RUNNING_ROWS)));
    planner.program(vec![dispatch], needs)
}

/// The averages of the moments of so many samples' instances move the running statistics.
pub fn instances(
    caps: &Caps,
    config: &BatchNormConfig,
    samples: u32,
) -> Result<Program<Params>, PlanError> {
    if !config.track_running_stats {
        return Err(PlanError::NoRunningStatistics);
    }
    let planner = without_values(caps, config, Statistics::Batch { track: true })?;
    let channels = planner.partition.statistics();
    let row = u64::from(samples) * u64::from(channels);
    let too_many = |_| PlanError::Unsupported {
        field: "samples",
        reason: "are too many for one kernel to average",
    };
    let params = planner
        .combination(samples.into(), channels)
        .map_err(too_many)?;
    // No device has memory for longer rows, and `program` returns that error.
    let params = BatchPlanner::with_parts(params, samples, row.try_into().unwrap_or(u32::MAX));
    let running = Finalized::Running;
    let dispatch = finalize::dispatch(&planner, Combine::Instances, running, params);
    let needs = vec![
        Need {
            field: MOMENTS,
            bytes: 4 * MOMENT_ROWS * row,
        },
        planner.statistics(RUNNING, RUNNING_ROWS),
    ];
    let dispatches = (samples > 0).then_some(dispatch);
    planner.program(dispatches.into_iter().collect(), needs)
}

/// `y` by statistics that are saved.
pub fn apply(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    options: PieceOptions,
) -> Result<Program<Params>, PlanError> {
    let y = options.destination;
    let planner = planner(caps, problem, config, options.tuning, Statistics::Shared)?;
    let mut needs = vec![planner.activation(X), planner.statistics(SAVED, 3)];
    needs.extend(planner.affine(AFFINE));
    needs.extend((y == Destination::OutOfPlace).then(|| planner.activation(Y)));
    needs.extend(config.epilogue.adds().then(|| planner.activation(RESIDUAL)));
    planner.program(passes::elementwise(&planner, y), needs)
}

/// The sums that the gradients need.
pub fn backward_reduce(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    options: PieceOptions,
) -> Result<Program<Params>, PlanError> {
    let mut planner = planner(caps, problem, config, options.tuning, Statistics::Shared)?;
    let result = Some(Finalized::Sums);
    let dispatches = passes::sums(&mut planner, backward_stats::dispatch, result)?;
    let mut needs = vec![
        planner.activation(X),
        planner.activation(DY),
        planner.statistics(SAVED, 3),
        planner.statistics(SUMS, SUM_ROWS),
    ];
    needs.extend(planner.affine(AFFINE));
    if config.epilogue.adds() {
        needs.extend([planner.activation(OUTPUT), planner.activation(DRESIDUAL)]);
    }
    planner.program(dispatches, needs)
}

/// The sums of several parts become those of the whole.
pub fn backward_combine(
    caps: &Caps,
    config: &BatchNormConfig,
    count: u32,
) -> Result<Program<Params>, PlanError> {
    let planner = without_values(caps, config, Statistics::Shared)?;
    if u64::from(count) > MAX_ROUNDS {
        return Err(PlanError::Unsupported {
            field: "parts",
            reason: "are too many for one kernel to add; add some of them first",
        });
    }
    let (parts, stride) = parts(caps, &planner, SUM_ROWS, count);
    let params = planner.one_lane_each(SUM_ROWS as u32 * planner.partition.statistics());
    let params = BatchPlanner::with_parts(params, count, stride);
    let sums = planner.statistics(SUMS, SUM_ROWS);
    planner.program(
        vec![add_sums::dispatch(&planner, params)],
        vec![parts, sums],
    )
}

/// `dx` by sums that are known.
pub fn backward_apply(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    options: PieceOptions,
) -> Result<Program<Params>, PlanError> {
    let dx = options.destination;
    let planner = planner(caps, problem, config, options.tuning, Statistics::Shared)?;
    let dispatches = passes::elementwise_backward(&planner, Means::Sums, dx);
    let mut needs = vec![
        planner.activation(X),
        planner.activation(DY),
        planner.statistics(SAVED, 3),
        planner.statistics(SUMS, SUM_ROWS),
    ];
    needs.extend(planner.affine(AFFINE));
    needs.extend((dx == Destination::OutOfPlace).then(|| planner.activation(DX)));
    needs.extend(
        config
            .epilogue
            .adds()
            .then(|| planner.activation(DRESIDUAL)),
    );
    planner.program(dispatches, needs)
}
