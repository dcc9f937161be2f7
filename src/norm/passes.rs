//! What the passes of all norms share: dispatches by strategy, and the buffers of the gradients.

use super::field::{
    ADDED, AFFINE, DADDED, DRESIDUAL, DX, DY, GRADS, OUTPUT, RESIDUAL, SAVED, X, Y,
};
use super::kernels::backward_normalize::{self, Means};
use super::kernels::finalize::{self, Combine, Finalized};
use super::kernels::{
    MOMENTS_FLOATS, SUMS_FLOATS, forward_reread, forward_resident, normalize, stats,
};
use super::options::{Destination, ParameterGradients};
use super::planner::Planner;
use super::tuning::Strategy;
use super::uniform::{Params, Settings};
use crate::error::PlanError;
use crate::gpu::program::{Dispatch, Need};

type Dispatches<S> = Vec<Dispatch<Params<S>>>;

/// Statistics of the tensor, and `y` by them. An empty tensor has no statistics, and leaves running ones alone.
pub fn forward<S: Settings>(planner: &mut Planner<'_, S>) -> Result<Dispatches<S>, PlanError> {
    Ok(match planner.strategy(1, 0, true)? {
        _ if planner.is_empty() => Vec::new(),
        Strategy::Resident => vec![forward_resident::dispatch(planner)],
        Strategy::Reread => vec![forward_reread::dispatch(planner)],
        Strategy::Split => {
            let mut dispatches = moments(planner, Finalized::Statistics)?;
            planner.sum_is_written();
            dispatches.extend(elementwise(planner, Destination::OutOfPlace));
            dispatches
        }
    })
}

/// The moments of each statistic, chunk by chunk and then together.
pub fn moments<S: Settings>(
    planner: &mut Planner<'_, S>,
    result: Finalized,
) -> Result<Dispatches<S>, PlanError> {
    let (mut dispatches, params) = planner.reduction(MOMENTS_FLOATS, stats::dispatch)?;
    dispatches.push(finalize::dispatch(planner, Combine::Chunks, result, params));
    Ok(dispatches)
}

/// The sums of each statistic: chunk by chunk by the kernel `chunk`, and then together if anything is made of them.
pub fn sums<S: Settings>(
    planner: &mut Planner<'_, S>,
    chunk: impl Fn(&Planner<'_, S>, Params<S>) -> Dispatch<Params<S>>,
    result: Option<Finalized>,
) -> Result<Dispatches<S>, PlanError> {
    let (mut dispatches, params) = planner.reduction(SUMS_FLOATS, chunk)?;
    dispatches
        .extend(result.map(|result| finalize::dispatch(planner, Combine::Chunks, result, params)));
    Ok(dispatches)
}

/// `y` by statistics that are stored.
pub fn elementwise<S: Settings>(planner: &Planner<'_, S>, y: Destination) -> Dispatches<S> {
    let windows = planner.windows().into_iter();
    windows
        .map(|params| normalize::dispatch(planner, y, params))
        .collect()
}

/// `dx` by statistics that are stored, and by means that are known.
pub fn elementwise_backward<S: Settings>(
    planner: &Planner<'_, S>,
    means: Means,
    dx: Destination,
) -> Dispatches<S> {
    let windows = planner.windows().into_iter();
    windows
        .map(|params| backward_normalize::dispatch(planner, means, dx, params))
        .collect()
}

/// What the sums of units make: gradients, where each unit has parameters of its own, and else what [`add_units`] adds.
pub fn unit_sums<S: Settings>(planner: &Planner<'_, S>) -> Finalized {
    match planner.partition.same_index() {
        true => Finalized::Gradients,
        false => Finalized::UnitSums,
    }
}

/// The gradients of parameters that several units share, whose sums wait at the head of scratch memory. `None` where the sums
/// of each unit are the gradients.
pub fn add_units<S: Settings>(
    planner: &Planner<'_, S>,
) -> Result<Option<Dispatch<Params<S>>>, PlanError> {
    if planner.partition.same_index() {
        return Ok(None);
    }
    let parameters = planner.partition.parameters;
    let units = planner.partition.statistics() / parameters;
    let params = planner.combination(units.into(), parameters)?;
    let gradients = Finalized::ParameterGradients;
    Ok(Some(finalize::dispatch(
        planner,
        Combine::Units,
        gradients,
        params,
    )))
}

/// Lets a forward pass add a residual to the input first.
pub fn set_prenorm<S: Settings>(
    planner: &mut Planner<'_, S>,
    prenorm: bool,
) -> Result<(), PlanError> {
    check_prenorm(planner, prenorm)?;
    if prenorm {
        planner.choose(("x", "x_added"));
    }
    Ok(())
}

/// Lets a backward pass add the gradient that the input has by another way to `dx`.
pub fn set_dadded<S: Settings>(
    planner: &mut Planner<'_, S>,
    prenorm: bool,
    dx: Option<Destination>,
) -> Result<(), PlanError> {
    check_prenorm(planner, prenorm)?;
    if prenorm && dx.is_none() {
        return Err(PlanError::Unsupported {
            field: "dadded",
            reason: "is added to dx, which is not wanted",
        });
    }
    if prenorm {
        planner.choose(("dadded", "dadded_added"));
    }
    Ok(())
}

fn check_prenorm<S: Settings>(planner: &Planner<'_, S>, prenorm: bool) -> Result<(), PlanError> {
    if prenorm && planner.epilogue.adds() {
        return Err(PlanError::Unsupported {
            field: "prenorm",
            reason: "the epilogue has the residual already",
        });
    }
    Ok(())
}

/// Is any gradient wanted?
pub fn check_wanted(
    dx: Option<Destination>,
    parameters: ParameterGradients,
    adds: bool,
) -> Result<(), PlanError> {
    if dx.is_none() && parameters == ParameterGradients::Skip && !adds {
        return Err(PlanError::Unsupported {
            field: "dx and parameters",
            reason: "no gradient is wanted; leave the backward pass out",
        });
    }
    Ok(())
}

/// Tells the kernels which gradients of parameters are wanted, and whether any are.
pub fn set_parameter_gradients<S: Settings>(
    planner: &mut Planner<'_, S>,
    parameters: ParameterGradients,
) -> bool {
    let wanted = planner.has_parameters() && parameters != ParameterGradients::Skip;
    planner.set("PARAMETER_GRADIENTS", wanted);
    planner.set("ACCUMULATE", parameters == ParameterGradients::Accumulate);
    wanted
}

/// The buffers of a forward pass that saves statistics.
pub fn forward_needs<S: Settings>(planner: &Planner<'_, S>) -> Vec<Need> {
    let mut needs = vec![
        planner.activation(X),
        planner.activation(Y),
        planner.saved(SAVED),
    ];
    needs.extend(planner.affine(AFFINE));
    if planner.prenorm() {
        needs.extend([planner.activation(RESIDUAL), planner.activation(ADDED)]);
    } else if planner.epilogue.adds() {
        needs.push(planner.activation(RESIDUAL));
    }
    needs
}

/// The buffers of a backward pass: `statistics`, and what goes with the gradients that are wanted.
pub fn backward_needs<S: Settings>(
    planner: &Planner<'_, S>,
    statistics: Need,
    dx: Option<Destination>,
    grads: bool,
    adds: bool,
) -> Vec<Need> {
    let mut needs = vec![planner.activation(X), planner.activation(DY), statistics];
    needs.extend(planner.affine(AFFINE));
    needs.extend((dx == Some(Destination::OutOfPlace)).then(|| planner.activation(DX)));
    if grads {
        needs.extend(planner.affine(GRADS));
    }
    if adds {
        needs.extend([planner.activation(OUTPUT), planner.activation(DRESIDUAL)]);
    }
    needs.extend(planner.adds_dadded().then(|| planner.activation(DADDED)));
    needs
}
