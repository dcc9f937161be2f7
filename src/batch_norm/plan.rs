//! From a shape, a device's properties and a configuration to dispatches. Pure: no device is touched.

use std::ops::Range;

use super::config::BatchNormConfig;
use super::params::Params;
use super::tuning::{Strategy, Tuning, wanted_groups};
use super::{
    SOURCES, backward_finalize, backward_normalize, backward_reread, backward_stats, finalize,
    forward_reread, normalize, stats,
};
use crate::dtype::{Dtype, Problem};
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::{Access, Binding, Dispatch, Field, KernelSpec, Need, Program};
use crate::shared;
use crate::shared::walk::{Geometry, Tile, Walk};

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
}

/// What the dispatches of one plan share.
#[derive(Clone, Debug)]
pub struct Pass<'a> {
    caps: &'a Caps,
    config: &'a BatchNormConfig,
    dtype: Dtype,
    pub statistics: Statistics,
    pub walk: Walk,
    tile: Tile,
    strategy: Strategy,
    windows: Vec<Range<u32>>,
    /// What the uniforms of all dispatches have in common.
    pub params: Params,
    scratch_floats: u64,
}

impl<'a> Pass<'a> {
    fn new(
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
                    params = params.tracking(config, values);
                }
            }
            Statistics::Frozen if !config.track_running_stats => {
                return Err(PlanError::NoRunningStatistics);
            }
            Statistics::Frozen => {}
        }
        let tile = tuning.tile(caps)?;
        let windows = walk.windows(caps.max_binding, 4 * problem.dtype.bytes());
        let strategy = tuning.strategy(shape, &walk, windows.len(), tile, caps)?;
        Ok(Self {
            caps,
            config,
            dtype: problem.dtype,
            statistics,
            walk,
            tile,
            strategy,
            windows,
            params,
            scratch_floats: 0,
        })
    }

    /// The size of a buffer.
    fn bytes(&self, field: Field) -> u64 {
        let row = 4 * u64::from(self.walk.channels);
        match field {
            Field::X | Field::Y | Field::Dy | Field::Dx => {
                self.dtype.buffer_bytes(self.walk.elements as usize)
            }
            Field::Affine | Field::Grads => row * self.config.affine_rows() as u64,
            Field::Running | Field::Saved => 3 * row,
            Field::Statistics => match self.statistics {
                Statistics::Batch { .. } => 3 * row,
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

    /// The running statistics if they are to be moved.
    pub fn write_running(&self) -> Binding {
        match self.statistics {
            Statistics::Batch { track: true } => self.write(Field::Running),
            _ => Binding {
                field: None,
                access: Access::Write,
                bytes: 0..0,
            },
        }
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
        let vector = 4 * self.dtype.bytes();
        Binding {
            field: Some(field),
            access,
            bytes: vector * u64::from(geometry.vector_begin)
                ..vector * u64::from(geometry.vector_end),
        }
    }

    /// A dispatch of the kernel in file `name`, with what `monoid` stands for if it reduces.
    pub fn dispatch(
        &self,
        name: &'static str,
        monoid: Option<&'static str>,
        params: Params,
        bindings: Vec<Binding>,
    ) -> Dispatch<Params> {
        let element = match self.dtype {
            Dtype::F32 => "element_f32",
            Dtype::F16 => "element_f16",
            Dtype::Bf16 => "element_bf16",
        };
        let mut choices = vec![self.walk.choice(), ("element", element)];
        choices.extend(monoid.map(|file| ("monoid", file)));
        Dispatch {
            kernel: KernelSpec {
                name,
                choices,
                overrides: vec![
                    ("WORKGROUP", self.tile.workgroup),
                    (
                        "MASKED",
                        (self.walk.masked || self.windows.len() > 1).into(),
                    ),
                    ("FROZEN", (self.statistics == Statistics::Frozen).into()),
                ],
            },
            groups: params.geometry.groups(),
            params,
            bindings,
        }
    }

    /// The walk of a kernel that takes a whole unit in one workgroup.
    fn whole(&self) -> Geometry {
        self.walk.geometry(&(0..self.walk.vectors()), self.tile, 1)
    }

    /// The walks of a kernel that takes the tensor in windows, over as many workgroups as are of use.
    fn parts(&self) -> Vec<Geometry> {
        self.windows
            .iter()
            .map(|window| {
                let vectors = window.end - window.start;
                let groups = wanted_groups(self.caps, &self.walk, self.tile, vectors);
                self.walk.geometry(window, self.tile, groups)
            })
            .collect()
    }

    /// Lays out partial results of `fields` vec4 fields in scratch memory, after `head` floats. Returns how
    /// many chunks there are over all windows.
    fn lay_out_partials(&mut self, parts: &[Geometry], head: u32, fields: u64) -> u32 {
        let chunks = parts.iter().map(|part| part.chunks).sum();
        let columns = self.walk.partial_columns();
        self.params.partials = head;
        self.params.partial_columns = columns;
        self.params.partial_plane = self.walk.partial_plane();
        self.params.partial_periods = self.walk.periods;
        self.scratch_floats = u64::from(head) + u64::from(chunks) * u64::from(columns) * 4 * fields;
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
                *next += geometry.chunks;
                Some(params)
            })
            .collect()
    }

    /// The parameters of a kernel that combines the partials of all chunks: `width` channels a workgroup, as
    /// many rows of lanes as there are partials to read.
    fn combination(&self, chunks: u32) -> Params {
        let entries = u64::from(chunks)
            * u64::from(self.params.partial_periods)
            * u64::from(self.params.partial_plane);
        let workgroup = self.tile.workgroup;
        let rows = entries
            .div_ceil(4)
            .clamp(1, workgroup.into())
            .next_power_of_two() as u32;
        let width = workgroup / rows;
        Params {
            geometry: Geometry {
                channels: self.walk.channels,
                elements: self.walk.elements,
                units: self.walk.channels.div_ceil(width),
                chunks: 1,
                width,
                ..Geometry::default()
            },
            partial_chunk: chunks,
            ..self.params
        }
    }

    fn is_empty(&self) -> bool {
        self.walk.elements == 0
    }

    /// Elementwise forward dispatches, by statistics in `field`.
    fn normalize(&self, field: Field) -> Vec<Dispatch<Params>> {
        self.parts()
            .iter()
            .map(|part| normalize::dispatch(self, field, *part))
            .collect()
    }

    fn program(
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
            .filter(|need| need.bytes > 0 || !need.field.is_optional())
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
        Ok(Program {
            sources: &[shared::SOURCES, SOURCES],
            dispatches,
            needs,
        })
    }
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
    tuning: Tuning,
) -> Result<Program<Params>, PlanError> {
    if !config.track_running_stats {
        let statistics = Statistics::Batch { track: false };
        return by_batch(caps, problem, config, tuning, statistics, &[]);
    }
    let pass = Pass::new(caps, problem, config, tuning, Statistics::Frozen)?;
    let fields = [Field::X, Field::Y, Field::Affine, Field::Running];
    pass.program(pass.normalize(Field::Running), &fields)
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
    match pass.strategy {
        // An empty batch has no statistics, and leaves the running ones alone.
        _ if pass.is_empty() => {}
        Strategy::Reread => dispatches.push(forward_reread::dispatch(&pass, pass.whole())),
        Strategy::Split => {
            let parts = pass.parts();
            let chunks = pass.lay_out_partials(&parts, 0, stats::FIELDS);
            let partials = pass.partials_of_parts(&parts);
            dispatches.extend(
                partials
                    .into_iter()
                    .map(|params| stats::dispatch(&pass, params)),
            );
            dispatches.push(finalize::dispatch(&pass, pass.combination(chunks)));
            dispatches.extend(pass.normalize(Field::Saved));
        }
    }
    let mut fields = vec![
        Field::X,
        Field::Y,
        Field::Affine,
        Field::Saved,
        Field::Scratch,
    ];
    fields.extend(running);
    pass.program(dispatches, &fields)
}

/// The gradients of [`train`], or of [`eval`] by running statistics if `frozen`.
pub fn backward(
    caps: &Caps,
    problem: Problem,
    config: &BatchNormConfig,
    tuning: Tuning,
    frozen: bool,
) -> Result<Program<Params>, PlanError> {
    let statistics = if frozen {
        Statistics::Frozen
    } else {
        Statistics::Batch { track: false }
    };
    let mut pass = Pass::new(caps, problem, config, tuning, statistics)?;
    let mut dispatches = Vec::new();
    let grads = config.affine_rows() > 0;
    // Frozen statistics do not couple the gradients of a channel, so dx alone needs no sums.
    let sums = grads || !(frozen || pass.is_empty());
    match pass.strategy {
        Strategy::Reread if sums && !pass.is_empty() => {
            dispatches.push(backward_reread::dispatch(&pass, pass.whole()));
        }
        _ => {
            let parts = pass.parts();
            if sums {
                let head = backward_finalize::HEAD_ROWS * pass.walk.channels;
                let chunks = pass.lay_out_partials(&parts, head, backward_stats::FIELDS);
                let partials = pass.partials_of_parts(&parts);
                dispatches.extend(
                    partials
                        .into_iter()
                        .map(|params| backward_stats::dispatch(&pass, params)),
                );
                dispatches.push(backward_finalize::dispatch(&pass, pass.combination(chunks)));
            }
            dispatches.extend(
                parts
                    .iter()
                    .map(|part| backward_normalize::dispatch(&pass, *part)),
            );
        }
    }
    let fields = [
        Field::X,
        Field::Dy,
        Field::Dx,
        Field::Statistics,
        Field::Affine,
        Field::Grads,
        Field::Scratch,
    ];
    pass.program(dispatches, &fields)
}
