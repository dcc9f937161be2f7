//! From a shape, a device's properties and a configuration to dispatches. Pure: no device is touched.

use std::ops::Range;

use super::config::BatchNormConfig;
use super::options::{BackwardOptions, Destination, Epilogue, EvalOptions, ParameterGradients};
use super::params::{ACCUMULATE, CUMULATIVE, HAS_BIAS, HAS_WEIGHT, PARAMETERS, Params, TRACK};
use super::tuning::{Strategy, Tuning, wanted_groups};
use super::{
    SOURCES, backward_finalize, backward_frozen, backward_normalize, backward_reread,
    backward_resident, backward_stats, finalize, forward_reread, forward_resident, normalize,
    stats,
};
use crate::dtype::{Dtype, Problem};
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::compose::Choice;
use crate::gpu::program::{Access, Binding, Dispatch, Field, KernelSpec, Need, Program};
use crate::shared;
use crate::shared::walk::{Geometry, MAX_STEPS, Order, Tile, Walk};

/// The statistics that a plan normalizes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch's own, which also move the running ones if `track`.
    Batch {
        /// Whether the running statistics are moved.
        track: bool,
    },
    /// The running ones, which nothing moves.
    Frozen,
    /// Those of a batch of which this is a part.
    Shared,
}

/// What the dispatches of one plan share.
#[derive(Clone, Debug)]
pub struct Pass<'a> {
    caps: &'a Caps,
    config: &'a BatchNormConfig,
    problem: Problem,
    pub statistics: Statistics,
    pub walk: Walk,
    tuning: Tuning,
    tile: Tile,
    windows: Vec<Range<u32>>,
    /// What the uniforms of all dispatches have in common.
    pub params: Params,
    pub scratch_floats: u64,
    /// Sets of moments to be combined.
    pub sets: u32,
}

impl<'a> Pass<'a> {
    pub fn new(
        caps: &'a Caps,
        problem: Problem,
        config: &'a BatchNormConfig,
        tuning: Tuning,
        statistics: Statistics,
    ) -> Result<Self, PlanError> {
        let shape = problem.shape;
        config.check()?;
        if shape.channels() != config.num_features {
            return Err(PlanError::Channels {
                expected: config.num_features,
                got: shape.channels(),
                shape,
            });
        }
        let walk = Walk::of(shape)?;
        // At most as many as there are elements, which the walk has counted.
        let values = walk.elements / walk.channels;
        let mut params = Params::new(config, values);
        match statistics {
            Statistics::Batch { track } => {
                config.check_batch_statistics(shape)?;
                if track {
                    params = params.tracking(config);
                }
            }
            Statistics::Frozen if !config.track_running_stats => {
                return Err(PlanError::NoRunningStatistics);
            }
            Statistics::Frozen | Statistics::Shared => {}
        }
        let bytes = problem.dtype.buffer_bytes(walk.elements as usize);
        let tile = tuning.tile(caps, bytes)?;
        let windows = walk.windows(caps.max_binding, 4 * problem.dtype.bytes());
        Ok(Self {
            caps,
            config,
            problem,
            statistics,
            walk,
            tuning,
            tile,
            windows,
            params,
            scratch_floats: 0,
            sets: 0,
        })
    }

    /// The size of a buffer.
    fn bytes(&self, field: Field) -> u64 {
        let row = 4 * u64::from(self.walk.channels);
        match field {
            Field::X
            | Field::Y
            | Field::Dy
            | Field::Dx
            | Field::Residual
            | Field::Dresidual
            | Field::Output => self.problem.dtype.buffer_bytes(self.walk.elements as usize),
            Field::Affine | Field::Grads => row * self.config.affine_rows() as u64,
            Field::Running | Field::Saved | Field::Sums => 3 * row,
            Field::Moments => 4 * row,
            Field::Sets => (4 * row).saturating_mul(self.sets.into()),
            Field::Statistics => match self.statistics {
                Statistics::Batch { .. } | Statistics::Shared => 3 * row,
                Statistics::Frozen => 2 * row,
            },
            Field::Scratch => 4 * self.scratch_floats,
        }
    }

    /// A whole buffer, or a placeholder for one that the configuration leaves out.
    fn binding(&self, field: Field, access: Access) -> Binding {
        let bytes = self.bytes(field);
        Binding {
            field: (bytes > 0).then_some(field),
            access,
            bytes: 0..bytes,
        }
    }

    pub fn read(&self, field: Field) -> Binding {
        self.binding(field, Access::Read)
    }

    pub fn write(&self, field: Field) -> Binding {
        self.binding(field, Access::Write)
    }

    /// A binding that the shader does not use.
    fn none(&self, access: Access) -> Binding {
        Binding {
            field: None,
            access,
            bytes: 0..0,
        }
    }

    pub fn none_written(&self) -> Binding {
        self.none(Access::Write)
    }

    /// The running statistics if they are to be moved.
    pub fn write_running(&self) -> Binding {
        match self.statistics {
            Statistics::Batch { track: true } => self.write(Field::Running),
            _ => self.none_written(),
        }
    }

    /// The parameters' gradients if they are wanted.
    pub fn write_grads(&self) -> Binding {
        if self.params.flags & PARAMETERS == 0 {
            return self.none_written();
        }
        self.write(Field::Grads)
    }

    /// What the epilogue adds, if it does.
    pub fn read_residual(&self, geometry: &Geometry) -> Binding {
        if self.config.epilogue.adds() {
            self.read_window(Field::Residual, geometry)
        } else {
            self.none(Access::Read)
        }
    }

    /// The forward pass's output and the residual's gradient, if the epilogue adds one.
    pub fn residual_of_backward(&self, geometry: &Geometry) -> [Binding; 2] {
        if self.config.epilogue.adds() {
            [
                self.read_window(Field::Output, geometry),
                self.write_window(Field::Dresidual, geometry),
            ]
        } else {
            [self.none(Access::Read), self.none_written()]
        }
    }

    /// The file that `gradients` stands for in a kernel that writes dx, with its bindings of dy and dx.
    pub fn gradients(&self, dx: Destination, geometry: &Geometry) -> (Choice, Binding, Binding) {
        let apart = ("gradients", "gradients_apart");
        match dx {
            // The incoming gradient stands in memory of its own by then.
            _ if self.config.epilogue.adds() => (
                apart,
                self.read_window(Field::Dresidual, geometry),
                self.write_window(
                    match dx {
                        Destination::Apart => Field::Dx,
                        Destination::InPlace => Field::Dy,
                    },
                    geometry,
                ),
            ),
            Destination::Apart => (
                apart,
                self.read_window(Field::Dy, geometry),
                self.write_window(Field::Dx, geometry),
            ),
            Destination::InPlace => (
                ("gradients", "gradients_in_place"),
                self.write_window(Field::Dy, geometry),
                self.none_written(),
            ),
        }
    }

    /// The file that `slot` stands for in a kernel that reduces over a walk.
    pub fn slot(&self) -> Choice {
        let file = match self.walk.order {
            Order::Planes => "slot_channel",
            Order::Columns => "slot_columns",
        };
        ("slot", file)
    }

    /// The file that `epilogue` stands for.
    pub fn epilogue(&self) -> Choice {
        ("epilogue", self.config.epilogue.forward_file())
    }

    /// The file that `incoming` stands for in the first pass of a backward pass.
    pub fn incoming(&self) -> Choice {
        ("incoming", self.config.epilogue.backward_file())
    }

    /// The file that `incoming` stands for in the second.
    pub fn incoming_again(&self) -> Choice {
        let epilogue = match self.config.epilogue {
            // It left its gradient as the residual's.
            Epilogue::AddRelu => Epilogue::Identity,
            other => other,
        };
        ("incoming", epilogue.backward_file())
    }

    /// The part of an activation that `geometry` walks.
    pub fn read_window(&self, field: Field, geometry: &Geometry) -> Binding {
        self.window(field, Access::Read, geometry)
    }

    /// The part of an activation that `geometry` walks.
    pub fn write_window(&self, field: Field, geometry: &Geometry) -> Binding {
        self.window(field, Access::Write, geometry)
    }

    fn window(&self, field: Field, access: Access, geometry: &Geometry) -> Binding {
        let vector = 4 * self.problem.dtype.bytes();
        Binding {
            field: Some(field),
            access,
            bytes: vector * u64::from(geometry.vector_begin)
                ..vector * u64::from(geometry.vector_end),
        }
    }

    /// A dispatch of a kernel that walks the tensor: the one in file `name`, with what its imports stand for beside
    /// layout and element.
    pub fn walking(
        &self,
        name: &'static str,
        more: &[Choice],
        params: Params,
        bindings: Vec<Binding>,
    ) -> Dispatch<Params> {
        let element = match self.problem.dtype {
            Dtype::F32 if self.caps.wide_words => "element_f32_wide",
            Dtype::F32 => "element_f32",
            Dtype::F16 => "element_f16",
            Dtype::Bf16 => "element_bf16",
        };
        let columns = match params.geometry.columns {
            16 => "columns_16",
            8 => "columns_8",
            4 => "columns_4",
            2 => "columns_2",
            _ => "columns_1",
        };
        let mut dispatch = self.combining(name, more, params, bindings);
        let kernel = &mut dispatch.kernel;
        kernel.choices.extend([
            self.walk.choice(),
            ("columns", columns),
            ("element", element),
        ]);
        let masked = self.walk.masked || self.windows.len() > 1;
        let frozen = self.statistics == Statistics::Frozen;
        kernel
            .overrides
            .extend([("MASKED", masked.into()), ("FROZEN", frozen.into())]);
        dispatch
    }

    /// A dispatch of a kernel that only combines what others have left: it is the same for all layouts and types.
    pub fn combining(
        &self,
        name: &'static str,
        choices: &[Choice],
        params: Params,
        bindings: Vec<Binding>,
    ) -> Dispatch<Params> {
        Dispatch {
            kernel: KernelSpec {
                name,
                choices: choices.to_vec(),
                overrides: vec![
                    ("WORKGROUP", self.tile.workgroup),
                    ("WIDTH", params.geometry.width),
                    ("FLAGS", params.flags & flags_of(&bindings)),
                ],
            },
            groups: params.geometry.groups(),
            params,
            bindings,
        }
    }

    /// The strategy of a pass that reads so many tensors.
    fn strategy(&self, tensors: u32) -> Result<Strategy, PlanError> {
        let kept = tensors * 4 * self.problem.dtype.bytes() as u32;
        let (walk, windows) = (&self.walk, self.windows.len());
        self.tuning.strategy(
            self.problem.shape,
            walk,
            windows,
            self.tile,
            self.caps,
            kept,
        )
    }

    /// The walk of a kernel that takes a whole unit in one workgroup.
    fn whole(&self) -> Geometry {
        self.walk.geometry(&(0..self.walk.vectors()), self.tile, 1)
    }

    /// The walk of a kernel that keeps a whole unit in one workgroup's registers, which are for one column.
    fn resident(&self) -> Geometry {
        self.walk.single_columns(self.tile)
    }

    /// The file that `held` stands for: room for the vectors that each lane visits.
    pub fn held(&self, geometry: &Geometry) -> Choice {
        let file = match geometry.visits() {
            0..=4 => "held_4",
            5..=8 => "held_8",
            9..=16 => "held_16",
            _ => "held_32",
        };
        ("held", file)
    }

    /// The walks of a kernel that takes the tensor in windows, over as many workgroups as are of use.
    pub fn parts(&self) -> Vec<Geometry> {
        let groups = wanted_groups(self.caps);
        self.windows
            .iter()
            .map(|window| self.walk.geometry(window, self.tile, groups))
            .collect()
    }

    /// The dispatches that leave partial results of `fields` floats in scratch memory, after `head` of the same size, a
    /// dispatch for each part, and the parameters of the kernel that combines them.
    pub fn reduction(
        &mut self,
        parts: &[Geometry],
        head: u32,
        fields: u64,
        dispatch: impl Fn(&Self, Params) -> Dispatch<Params>,
    ) -> Result<(Vec<Dispatch<Params>>, Params), PlanError> {
        let chunks = self.lay_out_partials(parts, head, fields);
        let combination = self.combination(chunks)?;
        let partials = self.partials_of_parts(parts).into_iter();
        let dispatches = partials.map(|params| dispatch(self, params)).collect();
        Ok((dispatches, combination))
    }

    /// Lays out partial results of `fields` floats in scratch memory, after `head` of the same size. Returns how
    /// many chunks there are over all windows.
    fn lay_out_partials(&mut self, parts: &[Geometry], head: u32, fields: u64) -> u32 {
        let chunks = parts.iter().map(|part| part.chunks()).sum();
        let components = self.walk.partial_components();
        self.params.partials = head;
        // Where that is too much, no device has memory for it, and `program` says so.
        self.params.partial_components = components.try_into().unwrap_or(u32::MAX);
        self.params.partial_plane = self.walk.partial_plane();
        self.params.partial_periods = self.walk.periods;
        self.scratch_floats = (u64::from(head) + u64::from(chunks) * components) * fields;
        chunks
    }

    /// The parameters of each part: the partials that it writes follow those of the parts before it.
    fn partials_of_parts(&self, parts: &[Geometry]) -> Vec<Params> {
        parts
            .iter()
            .scan(0, |next, &geometry| {
                let params = Params {
                    geometry,
                    partial_chunk: *next,
                    ..self.params
                };
                *next += geometry.chunks();
                Some(params)
            })
            .collect()
    }

    /// The parameters of a kernel that combines the partials of all chunks: `width` channels a workgroup, as
    /// many rows of lanes as there are partials to read.
    pub fn combination(&self, chunks: u32) -> Result<Params, PlanError> {
        let entries = u64::from(chunks)
            * u64::from(self.params.partial_periods)
            * u64::from(self.params.partial_plane);
        let Tile {
            workgroup, lanes, ..
        } = self.tile;
        // A lane takes four entries at a time.
        let rounds = entries.div_ceil(4);
        let rows = if workgroup == lanes {
            // Lanes that run together anyway might as well have a channel each, and need not wait for each other.
            rounds.div_ceil(MAX_STEPS)
        } else {
            rounds.min(workgroup.into())
        };
        let rows = rows.max(1).next_power_of_two();
        if rows > workgroup.into() || rounds.div_ceil(rows) > MAX_STEPS {
            return Err(PlanError::Unsupported {
                field: "parts",
                reason: "are too many for one kernel to combine; combine some of them first",
            });
        }
        let width = workgroup / rows as u32;
        Ok(Params {
            geometry: Geometry {
                channels: self.walk.channels,
                elements: self.walk.elements,
                units: self.walk.channels.div_ceil(width),
                // One item, so that there is one workgroup to a unit.
                chunk: 1,
                item_end: 1,
                width,
                ..Geometry::default()
            },
            partial_chunk: chunks,
            ..self.params
        })
    }

    fn is_empty(&self) -> bool {
        self.walk.elements == 0
    }

    /// Elementwise forward dispatches, by statistics in `field`.
    pub fn normalize(&self, field: Field, y: Destination) -> Vec<Dispatch<Params>> {
        self.parts()
            .iter()
            .map(|part| normalize::dispatch(self, field, y, *part))
            .collect()
    }

    pub fn program(
        &self,
        dispatches: Vec<Dispatch<Params>>,
        fields: &[Field],
    ) -> Result<Program<Params>, PlanError> {
        let needs: Vec<Need> = fields
            .iter()
            .map(|&field| Need {
                field,
                bytes: self.bytes(field),
            })
            // A configuration without parameters has no such buffer; an empty batch has empty ones.
            .filter(|need| need.bytes > 0 || need.field != Field::Affine)
            .collect();
        let bound = dispatches.iter().flat_map(|dispatch| &dispatch.bindings);
        let largest = bound
            .map(|b| b.bytes.end - b.bytes.start)
            .max()
            .unwrap_or(0);
        if largest > self.caps.max_binding {
            return Err(PlanError::Limit {
                limit: "max_storage_buffer_binding_size",
                needed: largest,
                available: self.caps.max_binding,
            });
        }
        let grid = |dispatch: &Dispatch<_>| dispatch.grid(self.caps.max_groups);
        if let Some(dispatch) = dispatches
            .iter()
            .find(|dispatch| grid(dispatch)[1] > self.caps.max_groups)
        {
            return Err(PlanError::Limit {
                limit: "max_compute_workgroups_per_dimension",
                needed: grid(dispatch)[1].into(),
                available: self.caps.max_groups.into(),
            });
        }
        Ok(Program {
            sources: &[shared::SOURCES, SOURCES],
            dispatches,
            needs,
        })
    }
}

/// The flags that a kernel can ask for: those about buffers that it binds. Where others differ, it is the same kernel.
fn flags_of(bindings: &[Binding]) -> u32 {
    let about = |field, flags| {
        let bound = bindings.iter().any(|binding| binding.field == Some(field));
        if bound { flags } else { 0 }
    };
    about(Field::Affine, HAS_WEIGHT | HAS_BIAS)
        | about(Field::Running, TRACK | CUMULATIVE)
        | about(
            Field::Grads,
            HAS_WEIGHT | HAS_BIAS | PARAMETERS | ACCUMULATE,
        )
}

/// Normalizes by the batch's own statistics, and saves them.
pub fn train(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    tuning: Tuning,
) -> Result<Program<Params>, PlanError> {
    let track = config.track_running_stats;
    let running: &[Field] = if track { &[Field::Running] } else { &[] };
    by_batch(
        caps,
        problem,
        config,
        tuning,
        Statistics::Batch { track },
        running,
    )
}

/// Normalizes by the running statistics, or by the batch's own where none are tracked.
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
        let statistics = Statistics::Batch { track: false };
        return by_batch(caps, problem, config, tuning, statistics, &[]);
    }
    let pass = Pass::new(caps, problem, config, tuning, Statistics::Frozen)?;
    let mut fields = vec![Field::X, Field::Affine, Field::Running];
    fields.extend((y == Destination::Apart).then_some(Field::Y));
    fields.extend(config.epilogue.adds().then_some(Field::Residual));
    pass.program(pass.normalize(Field::Running, y), &fields)
}

fn by_batch(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    tuning: Tuning,
    statistics: Statistics,
    running: &[Field],
) -> Result<Program<Params>, PlanError> {
    let mut pass = Pass::new(caps, problem, config, tuning, statistics)?;
    let mut dispatches = Vec::new();
    match pass.strategy(1)? {
        // An empty batch has no statistics, and leaves the running ones alone.
        _ if pass.is_empty() => {}
        Strategy::Resident => dispatches.push(forward_resident::dispatch(&pass, pass.resident())),
        Strategy::Reread => dispatches.push(forward_reread::dispatch(&pass, pass.whole())),
        Strategy::Split => {
            let parts = pass.parts();
            let (reduction, params) = pass.reduction(&parts, 0, stats::FIELDS, stats::dispatch)?;
            dispatches.extend(reduction);
            let (parts, outcome) = (finalize::Parts::Scratch, finalize::Outcome::Statistics);
            dispatches.push(finalize::dispatch(&pass, parts, outcome, params));
            dispatches.extend(pass.normalize(Field::Saved, Destination::Apart));
        }
    }
    let mut fields = vec![
        Field::X,
        Field::Y,
        Field::Affine,
        Field::Saved,
        Field::Scratch,
    ];
    fields.extend(config.epilogue.adds().then_some(Field::Residual));
    fields.extend(running);
    pass.program(dispatches, &fields)
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
    if dx.is_none() && parameters == ParameterGradients::Skip && !adds {
        return Err(PlanError::Unsupported {
            field: "dx and parameters",
            reason: "no gradient is wanted; leave the backward pass out",
        });
    }
    let statistics = if frozen {
        Statistics::Frozen
    } else {
        Statistics::Batch { track: false }
    };
    let mut pass = Pass::new(caps, problem, config, tuning, statistics)?;
    let grads = config.affine_rows() > 0 && parameters != ParameterGradients::Skip;
    if grads {
        pass.params.flags |= PARAMETERS;
    }
    if parameters == ParameterGradients::Accumulate {
        pass.params.flags |= ACCUMULATE;
    }

    // Running statistics do not couple the gradients of a channel, so that dx alone needs no sums. The pass
    // that sums also leaves the residual's gradient.
    let coupled = dx.is_some() && !frozen && !pass.is_empty();
    let sums = grads || coupled || adds;
    // dx written while others still read dy needs vectors that no two units share.
    let at_once = frozen && !adds && (dx != Some(Destination::InPlace) || !pass.walk.masked);
    let mut dispatches = Vec::new();
    match (dx, pass.strategy(2)?) {
        (Some(dx), Strategy::Resident) if sums && !frozen && !adds && !pass.is_empty() => {
            dispatches.push(backward_resident::dispatch(&pass, dx, pass.resident()));
        }
        (Some(dx), Strategy::Reread) if sums && !frozen && !adds && !pass.is_empty() => {
            dispatches.push(backward_reread::dispatch(&pass, dx, pass.whole()));
        }
        _ => {
            let parts = pass.parts();
            if sums {
                // Means that dx needs.
                let head = pass.walk.channels;
                let dispatch = |pass: &Pass<'_>, params| match dx {
                    Some(dx) if at_once => backward_frozen::dispatch(pass, dx, params),
                    _ => backward_stats::dispatch(pass, params),
                };
                let (reduction, params) =
                    pass.reduction(&parts, head, backward_stats::FIELDS, dispatch)?;
                dispatches.extend(reduction);
                if grads || coupled {
                    let outcome = backward_finalize::Outcome::Gradients;
                    dispatches.push(backward_finalize::dispatch(&pass, outcome, params));
                }
            }
            if let Some(dx) = dx.filter(|_| !(sums && at_once)) {
                let normalize = |part: &Geometry| {
                    backward_normalize::dispatch(
                        &pass,
                        backward_normalize::Means::Scratch,
                        dx,
                        *part,
                    )
                };
                dispatches.extend(parts.iter().map(normalize));
            }
        }
    }
    let mut fields = vec![
        Field::X,
        Field::Dy,
        Field::Statistics,
        Field::Affine,
        Field::Scratch,
    ];
    fields.extend((dx == Some(Destination::Apart)).then_some(Field::Dx));
    fields.extend(grads.then_some(Field::Grads));
    if adds {
        fields.extend([Field::Output, Field::Dresidual]);
    }
    pass.program(dispatches, &fields)
}
