//! The programs of norms over the trailing extents of a tensor: rows of neighbouring values, each of which has a parameter.

use super::field::SAVED;
use super::kernels::backward_normalize::Means;
use super::kernels::finalize::{Combine, Finalized};
use super::kernels::{
    SUMS_FLOATS, backward_reread, backward_resident, backward_rows, backward_stats, finalize,
};
use super::options::{Epilogue, check_eps};
use super::partition::{self, Order, Over};
use super::passes;
use super::planner::{Decisions, Norm, Planner};
use super::sample::{BackwardOptions, ForwardOptions, Params};
use super::tuning::{Strategy, Tuning};
use super::uniform::EpsSettings;
use crate::dtype::{Dtype, Problem};
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::Program;
use crate::shape::{Layout, Shape};

/// The values of a row in problem lines that name none: the channels where they are innermost, and else a whole sample.
pub fn row_of(shape: Shape) -> usize {
    let spatial = match shape.layout() {
        Layout::ChannelsFirst => shape.plane().unwrap_or(usize::MAX),
        Layout::ChannelsLast => 1,
    };
    shape.channels().saturating_mul(spatial)
}

/// Checks what does not depend on a shape.
pub fn check(size: usize, eps: f32) -> Result<(), PlanError> {
    if size == 0 {
        return Err(PlanError::Unsupported {
            field: "normalized_size",
            reason: "must be at least 1",
        });
    }
    check_eps(eps)
}

/// A norm of rows.
#[derive(Clone, Copy, Debug)]
pub struct Trailing {
    pub norm: &'static Norm,
    /// The values of a row.
    pub size: usize,
    pub eps: f32,
    pub weight: bool,
    pub bias: bool,
    /// Whether the mean is taken off.
    pub centered: bool,
    /// Whether each sample has parameters of its own.
    pub per_sample: bool,
    /// Whether 1 is added to the weight.
    pub unit_offset: bool,
    /// Whether normalized values are rounded before the weight multiplies them.
    pub round_before_weight: bool,
    pub epilogue: Epilogue,
}

impl Trailing {
    fn planner<'a>(
        &self,
        caps: &'a Caps,
        problem: Problem,
        over: Over,
        samples: Option<usize>,
        tuning: Tuning,
    ) -> Result<Planner<'a, EpsSettings>, PlanError> {
        let decisions = Decisions {
            over,
            settings: EpsSettings { eps: self.eps },
            weight: self.weight,
            bias: self.bias,
            samples,
            unit_offset: self.unit_offset,
            epilogue: self.epilogue,
            tuning,
        };
        let mut planner = Planner::new(self.norm, caps, problem, decisions)?;
        planner.choose(("running", "running_none"));
        planner.choose(("stored_statistics", "stored_saved"));
        planner.choose(("unit_gradients", "unit_gradients_none"));
        planner.set("CENTERED", self.centered);
        // Values of f32 are what they are stored as.
        let rounds = self.round_before_weight && problem.dtype != Dtype::F32;
        planner.set("ROUND_BEFORE_WEIGHT", rounds);
        Ok(planner)
    }

    /// The samples that have parameters of their own.
    fn samples(&self, shape: Shape) -> Option<usize> {
        self.per_sample.then(|| shape.batch())
    }

    /// The tensor divided into rows.
    fn rows<'a>(
        &self,
        caps: &'a Caps,
        problem: Problem,
        tuning: Tuning,
    ) -> Result<Planner<'a, EpsSettings>, PlanError> {
        let samples = self.samples(problem.shape);
        let rows = partition::rows(problem.shape, self.size);
        if rows
            .zip(samples)
            .is_some_and(|(rows, samples)| !rows.is_multiple_of(samples))
        {
            return Err(PlanError::Unsupported {
                field: "normalized_size",
                reason: "must be at most the values of a sample, where each sample has parameters of its own",
            });
        }
        self.planner(caps, problem, Over::Trailing(self.size), samples, tuning)
    }

    /// The tensor divided into columns, or each sample: the values with one parameter. Their statistics change from row to row.
    fn columns<'a>(
        &self,
        caps: &'a Caps,
        problem: Problem,
        tuning: Tuning,
    ) -> Result<Planner<'a, EpsSettings>, PlanError> {
        let rows = partition::rows(problem.shape, self.size).unwrap_or(0);
        let samples = self.samples(problem.shape);
        let (columns, over, samples) = match samples {
            Some(count @ 1..) if rows > 0 => (self.size, Over::Samples(rows / count), samples),
            // Without rows nothing is divided, and the gradients of all parameters are zero.
            Some(count @ 1..) => (self.size.saturating_mul(count), Over::Batch, None),
            _ => (self.size, Over::Batch, samples),
        };
        let table = Problem::new(Shape::nc(rows, columns), problem.dtype);
        let mut planner = self.planner(caps, table, over, samples, tuning)?;
        planner.set_saved(rows as u32, self.size as u32);
        planner.set("STATISTICS_VARY", true);
        planner.set("STATISTICS_SHARE", self.size.is_multiple_of(4));
        Ok(planner)
    }

    /// Normalizes each row, and saves the statistics.
    pub fn forward(
        &self,
        caps: &Caps,
        problem: Problem,
        options: ForwardOptions,
    ) -> Result<Program<Params>, PlanError> {
        let mut rows = self.rows(caps, problem, options.tuning)?;
        passes::set_prenorm(&mut rows, options.prenorm)?;
        let dispatches = passes::forward(&mut rows)?;
        let needs = passes::forward_needs(&rows);
        rows.program(dispatches, needs)
    }

    /// The gradients of [`forward`](Self::forward): those of the parameters by columns, and then that of the input by rows,
    /// which may overwrite what columns read. One kernel does both where a row fits registers, or where each lane has several rows.
    pub fn backward(
        &self,
        caps: &Caps,
        problem: Problem,
        options: BackwardOptions,
    ) -> Result<Program<Params>, PlanError> {
        let BackwardOptions {
            dx,
            parameters,
            tuning,
            prenorm,
        } = options;
        let adds = self.epilogue.adds();
        passes::check_wanted(dx, parameters, adds)?;
        let mut rows = self.rows(caps, problem, tuning)?;
        rows.set("WEIGHTED", true);
        passes::set_dadded(&mut rows, prenorm, dx)?;
        let mut columns = self.columns(caps, problem, tuning)?;
        let grads = passes::set_parameter_gradients(&mut columns, parameters);
        let coupled = dx.is_some() && !rows.is_empty();

        let mut dispatches = Vec::new();
        let can_hold = coupled && !adds && self.epilogue.masks();
        // One kernel for all gradients keeps two sums for each vector of a row.
        let can_fuse =
            can_hold && grads && rows.partition.order == Order::Planes && rows.takes_rows_at_once();
        let fused = can_fuse && rows.strategy(2, 2, true) == Ok(Strategy::Resident);
        let strategy = rows.strategy(2, 0, can_hold)?;
        // A kernel that reads rows again leaves what those gradients are made of, too, if each lane has several rows.
        let in_one_kernel = match strategy {
            _ if fused => Some(rows.rows_at_once(SUMS_FLOATS)?),
            Strategy::Reread if grads && coupled && !adds => rows.rows_side_by_side(SUMS_FLOATS)?,
            _ => None,
        };
        // The first kernel writes the gradient of the residual, too.
        if in_one_kernel.is_none() && (grads || (adds && !coupled)) {
            let result = grads.then_some(Finalized::ParameterGradients);
            dispatches.extend(passes::sums(
                &mut columns,
                backward_stats::dispatch,
                result,
            )?);
            rows.follows = true;
        }
        if let Some(dx) = dx.filter(|_| coupled) {
            match (strategy, in_one_kernel) {
                (_, Some((params, columns))) => {
                    passes::set_parameter_gradients(&mut rows, parameters);
                    dispatches.push(match fused {
                        true => backward_rows::dispatch(&rows, dx, params),
                        false => backward_reread::dispatch_with_row_gradients(&rows, dx, params),
                    });
                    // The chunks of a sample are an outer group's.
                    rows.set("OUTER", rows.partition.parameters_per_sample());
                    let gradients = Finalized::ParameterGradients;
                    dispatches.push(finalize::dispatch(
                        &rows,
                        Combine::Chunks,
                        gradients,
                        columns,
                    ));
                }
                (Strategy::Resident, None) if can_hold => {
                    dispatches.push(backward_resident::dispatch(&rows, dx));
                }
                (Strategy::Resident | Strategy::Reread, None) if !adds => {
                    dispatches.push(backward_reread::dispatch(&rows, dx));
                }
                _ => {
                    rows.reserve_head(rows.partition.statistics(), SUMS_FLOATS);
                    let sums = Some(Finalized::UnitSums);
                    dispatches.extend(passes::sums(&mut rows, backward_stats::dispatch, sums)?);
                    dispatches.extend(passes::elementwise_backward(&rows, Means::Scratch, dx));
                }
            }
        }
        rows.share_scratch(&columns);
        let saved = rows.saved(SAVED);
        let needs = passes::backward_needs(&rows, saved, dx, grads, adds);
        rows.program(dispatches, needs)
    }
}
