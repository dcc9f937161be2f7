//! The dispatches of the pieces that BatchNorm is made of, each a program of its own. Pure, as `plan`.

use super::backward_normalize::Means;
use super::config::BatchNormConfig;
use super::finalize::{Outcome, Parts};
use super::options::Destination;
use super::params::Params;
use super::plan::{Pass, Statistics};
use super::tuning::Tuning;
use super::{backward_finalize, backward_normalize, backward_stats, finalize, stats};
use crate::dtype::Problem;
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::{Field, Program};
use crate::shape::Shape;

/// The moments of `x`.
pub fn stats(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    tuning: Tuning,
) -> Result<Program<Params>, PlanError> {
    let mut pass = Pass::new(caps, problem, config, tuning, Statistics::Shared)?;
    let parts = pass.parts();
    let (mut dispatches, params) = pass.reduction(&parts, 0, stats::FIELDS, stats::dispatch)?;
    dispatches.push(finalize::dispatch(
        &pass,
        Parts::Scratch,
        Outcome::Moments,
        params,
    ));
    pass.program(dispatches, &[Field::X, Field::Moments, Field::Scratch])
}

/// A pass that walks no values.
fn walkless<'a>(
    caps: &'a Caps,
    config: &'a BatchNormConfig,
    statistics: Statistics,
) -> Result<Pass<'a>, PlanError> {
    let nothing = Shape::nc(0, config.num_features).into();
    let mut pass = Pass::new(caps, nothing, config, Tuning::default(), statistics)?;
    pass.params.partial_plane = 1;
    pass.params.partial_periods = 1;
    Ok(pass)
}

/// The moments of several parts become those of the whole.
pub fn combine(
    caps: &Caps,
    config: &BatchNormConfig,
    sets: u32,
) -> Result<Program<Params>, PlanError> {
    let mut pass = walkless(caps, config, Statistics::Shared)?;
    pass.sets = sets;
    let parts = Parts::Moments(Field::Sets);
    let dispatch = finalize::dispatch(&pass, parts, Outcome::Moments, pass.combination(sets)?);
    pass.program(vec![dispatch], &[Field::Sets, Field::Moments])
}

/// Moments become statistics.
pub fn finalize(caps: &Caps, config: &BatchNormConfig) -> Result<Program<Params>, PlanError> {
    let track = config.track_running_stats;
    let pass = walkless(caps, config, Statistics::Batch { track })?;
    let parts = Parts::Moments(Field::Moments);
    let dispatch = finalize::dispatch(&pass, parts, Outcome::Statistics, pass.combination(1)?);
    let mut fields = vec![Field::Moments, Field::Saved];
    fields.extend(track.then_some(Field::Running));
    pass.program(vec![dispatch], &fields)
}

/// `y` by statistics that are saved.
pub fn apply(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    y: Destination,
) -> Result<Program<Params>, PlanError> {
    let pass = Pass::new(caps, problem, config, Tuning::default(), Statistics::Shared)?;
    let mut fields = vec![Field::X, Field::Affine, Field::Saved];
    fields.extend((y == Destination::Apart).then_some(Field::Y));
    fields.extend(config.epilogue.adds().then_some(Field::Residual));
    pass.program(pass.normalize(Field::Saved, y), &fields)
}

/// The sums that the gradients need.
pub fn backward_reduce(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    tuning: Tuning,
) -> Result<Program<Params>, PlanError> {
    let mut pass = Pass::new(caps, problem, config, tuning, Statistics::Shared)?;
    let parts = pass.parts();
    let dispatch = backward_stats::dispatch;
    let (mut dispatches, params) = pass.reduction(&parts, 0, backward_stats::FIELDS, dispatch)?;
    let outcome = backward_finalize::Outcome::Sums;
    dispatches.push(backward_finalize::dispatch(&pass, outcome, params));
    let mut fields = vec![
        Field::X,
        Field::Dy,
        Field::Statistics,
        Field::Affine,
        Field::Sums,
        Field::Scratch,
    ];
    if config.epilogue.adds() {
        fields.extend([Field::Output, Field::Dresidual]);
    }
    pass.program(dispatches, &fields)
}

/// `dx` by sums that are known.
pub fn backward_apply(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    dx: Destination,
) -> Result<Program<Params>, PlanError> {
    let pass = Pass::new(caps, problem, config, Tuning::default(), Statistics::Shared)?;
    let dispatch = |part| backward_normalize::dispatch(&pass, Means::Sums, dx, part);
    let dispatches = pass.parts().into_iter().map(dispatch).collect();
    let mut fields = vec![
        Field::X,
        Field::Dy,
        Field::Statistics,
        Field::Affine,
        Field::Sums,
    ];
    fields.extend((dx == Destination::Apart).then_some(Field::Dx));
    fields.extend(config.epilogue.adds().then_some(Field::Dresidual));
    pass.program(dispatches, &fields)
}
