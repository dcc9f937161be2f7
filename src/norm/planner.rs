//! Plans dispatches: from a problem, a device's properties and a norm's decisions to kernels, uniforms and sizes of buffers.
//! Pure: it touches no device.

use std::ops::Range;

use super::field::{SCRATCH, X};
use super::options::Epilogue;
use super::partition::{Geometry, MAX_ELEMENTS, MAX_ROUNDS, Order, Over, Partition};
use super::tile::Tile;
use super::tuning::{Held, Strategy, Tuning, code_bytes, wanted_groups};
use super::uniform::{Params, Reduction, Settings};
use crate::dtype::{Dtype, Problem};
use crate::error::PlanError;
use crate::gpu::compose::{Choice, Source};
use crate::gpu::program::{Dispatch, Field, KernelSpec, Need, Program};
use crate::gpu::{Caps, F16Conversion};

/// What tells a norm's kernels from those of others.
#[derive(Debug)]
pub struct Norm {
    /// The first half of kernels' labels.
    pub name: &'static str,
    /// The WGSL files that its kernels are composed of.
    pub sources: &'static [&'static [Source]],
    /// The file that `params.wgsl` imports as `settings`.
    pub settings: &'static str,
}

/// What a norm has decided before anything is divided.
#[derive(Clone, Copy, Debug)]
pub struct Decisions<S> {
    pub over: Over,
    pub settings: S,
    pub weight: bool,
    pub bias: bool,
    /// Samples that have parameters of their own; `None` if all share them.
    pub samples: Option<usize>,
    /// Whether 1 is added to the weight.
    pub unit_offset: bool,
    pub epilogue: Epilogue,
    pub tuning: Tuning,
}

/// As many workgroups keep a device busy.
const FEW_GROUPS: u32 = 256;

/// Units that one workgroup takes one after the other, if there are enough for many workgroups. What it leaves is then a
/// fraction of what it reads.
const ROWS_TO_SHARE: u32 = 16;

/// The most that it takes: their plain sums lose few digits, and their loops stay short of what llvmpipe ends.
const MOST_ROWS_TO_SHARE: u32 = 256;

/// The fewest rows of a lane that leaves gradients of parameters for all of them, and the most lanes that do: what they leave is
/// a fraction of what they read, and is added without losing digits.
const FEW_ROWS: u32 = 4;
const MANY_CHUNKS: u32 = 1024;

/// The parameters of a kernel that leaves an entry for each parameter in each of several chunks, and of the kernel that combines
/// them.
type RowsAndColumns<S> = (Params<S>, Params<S>);

/// Dispatches in order.
type Dispatches<S> = Vec<Dispatch<Params<S>>>;

/// What the dispatches of one plan share.
#[derive(Clone, Debug)]
pub struct Planner<'a, S> {
    norm: &'static Norm,
    caps: &'a Caps,
    problem: Problem,
    pub partition: Partition,
    pub epilogue: Epilogue,
    /// Whether an earlier backward kernel has left what the epilogue makes of the gradient.
    pub follows: bool,
    tuning: Tuning,
    tile: Tile,
    windows: Vec<Range<u32>>,
    affine_rows: u64,
    params: Params<S>,
    /// Files bound to slots, and values of constants, that hold for all dispatches.
    choices: Vec<Choice>,
    constants: Vec<(&'static str, u32)>,
    /// Floats of scratch memory.
    scratch: u64,
}

impl<'a, S: Settings> Planner<'a, S> {
    pub fn new(
        norm: &'static Norm,
        caps: &'a Caps,
        problem: Problem,
        decisions: Decisions<S>,
    ) -> Result<Self, PlanError> {
        if caps.max_binding < 256 {
            return Err(PlanError::Limit {
                limit: "max_storage_buffer_binding_size",
                needed: 256,
                available: caps.max_binding,
            });
        }
        let mut partition = Partition::of(problem.shape, decisions.over)?;
        if let Some(samples) = decisions.samples {
            let own = partition.with_parameters_of(samples);
            partition = own.ok_or(PlanError::TooManyElements {
                shape: problem.shape,
                limit: MAX_ELEMENTS,
            })?;
        }
        let bytes = problem.dtype.buffer_bytes(partition.elements as usize);
        let tile = decisions.tuning.tile_for(caps, &partition, bytes)?;
        let windows = partition.windows(caps.max_binding, 4 * problem.dtype.bytes());
        let count = partition.values_per_statistic();
        let element = match problem.dtype {
            Dtype::F32 if caps.wide_words => "element_f32_wide",
            Dtype::F32 => "element_f32",
            Dtype::F16 => element_f16(caps.f16),
            Dtype::Bf16 => "element_bf16",
        };
        let affine = match partition.parameters_are_vectors() {
            true if caps.wide_words => "affine_wide",
            true => "affine_vectors",
            false => "affine_values",
        };
        Ok(Self {
            norm,
            caps,
            problem,
            partition,
            epilogue: decisions.epilogue,
            follows: false,
            tuning: decisions.tuning,
            tile,
            affine_rows: u64::from(decisions.weight) + u64::from(decisions.bias),
            params: Params {
                geometry: partition.indices(),
                reduction: Reduction {
                    count: count as f32,
                    inverse_count: 1.0 / count.max(1) as f32,
                    ..Reduction::default()
                },
                settings: decisions.settings,
            },
            choices: vec![
                ("settings", norm.settings),
                partition.choice(),
                ("affine_row", affine),
                ("element", element),
                ("x", "x_alone"),
                ("dadded", "dadded_none"),
                ("row_gradients", "row_gradients_none"),
            ],
            constants: vec![
                ("WORKGROUP", tile.workgroup),
                ("MASKED", (partition.masked || windows.len() > 1).into()),
                ("OUTER", (partition.outer > 1).into()),
                ("PER_SAMPLE", partition.parameters_per_sample().into()),
                ("SAME_INDEX", partition.same_index().into()),
                ("PARAMETERS_VARY", partition.parameters_vary().into()),
                ("PARAMETERS_SHARE", partition.parameters_share().into()),
                ("STATISTICS_VARY", 0),
                (
                    "STATISTICS_SHARE",
                    (partition.order == Order::Planes).into(),
                ),
                ("WEIGHTED", 0),
                ("CENTERED", 1),
                ("GROUPED", 0),
                ("UNIT_OFFSET", decisions.unit_offset.into()),
                ("ROUND_BEFORE_WEIGHT", 0),
                ("HAS_WEIGHT", decisions.weight.into()),
                ("HAS_BIAS", decisions.bias.into()),
            ],
            windows,
            scratch: 0,
        })
    }

    /// Binds a file to a slot in all dispatches that import it.
    pub fn choose(&mut self, choice: Choice) {
        self.choices.retain(|(slot, _)| *slot != choice.0);
        self.choices.push(choice);
    }

    /// Gives a constant a value in all dispatches that declare it.
    pub fn set(&mut self, name: &'static str, value: impl Into<u32>) {
        self.constants.retain(|(other, _)| *other != name);
        self.constants.push((name, value.into()));
    }

    /// Says that `saved` holds fewer statistics than the tensor is divided into, or others: so many, of so many values each.
    pub fn set_saved(&mut self, statistics: u32, values: u32) {
        self.params.geometry.saved_statistics = statistics;
        self.params.reduction.count = values as f32;
        self.params.reduction.inverse_count = 1.0 / values.max(1) as f32;
    }

    fn has_choice(&self, choice: Choice) -> bool {
        self.choices.contains(&choice)
    }

    /// Whether the input is the sum of two tensors.
    pub fn prenorm(&self) -> bool {
        self.has_choice(("x", "x_added")) || self.has_choice(("x", "x_added_before"))
    }

    /// Lets the dispatches that follow read the sum, if there is one.
    pub fn sum_is_written(&mut self) {
        if self.prenorm() {
            self.choose(("x", "x_added_before"));
        }
    }

    /// Whether dx is added to the gradient that the input has by another way.
    pub fn adds_dadded(&self) -> bool {
        self.has_choice(("dadded", "dadded_added"))
    }

    pub fn is_empty(&self) -> bool {
        self.partition.elements == 0
    }

    /// The strategy of a pass that reads `tensors` tensors, and keeps `sums` vectors of f32 for each vector of them. Where a
    /// kernel of the pass can hold units in registers (`can_hold`), and only larger workgroups have enough of them, the plan
    /// takes those.
    pub fn strategy(
        &mut self,
        tensors: u32,
        sums: u32,
        can_hold: bool,
    ) -> Result<Strategy, PlanError> {
        let dtype = self.problem.dtype;
        let held = Held {
            registers: tensors * 4 * dtype.bytes() as u32 + sums * 16,
            code: code_bytes(
                dtype,
                self.caps.f16,
                tensors,
                self.partition.parameters_vary(),
            ),
        };
        let strategy_with = |tile| {
            self.tuning.strategy_for(
                self.problem.shape,
                &self.partition,
                self.windows.len(),
                tile,
                self.caps,
                held,
            )
        };
        let strategy = strategy_with(self.tile);
        let resident = Ok(Strategy::Resident);
        if can_hold
            && strategy != resident
            && let Some(wider) = self.tuning.wider(self.caps, self.tile)
            && strategy_with(wider) == resident
        {
            self.tile = wider;
            self.set("WORKGROUP", wider.workgroup);
            return resident;
        }
        strategy
    }

    /// The parameters of a kernel in which one workgroup takes a whole unit.
    pub fn whole(&self) -> Params<S> {
        self.over(self.partition.geometry(&self.all(), self.tile, 1))
    }

    /// The parameters of a kernel in which one workgroup holds a whole unit in registers, which are for one column.
    pub fn resident(&self) -> Params<S> {
        self.over(self.partition.single_columns(self.tile))
    }

    /// The parameters of a kernel in which a workgroup takes several units, one after the other, and leaves an entry of
    /// `floats` floats for each value of WIDTH rows; and those of the kernel that combines them by parameter.
    pub fn rows_at_once(&mut self, floats: u64) -> Result<RowsAndColumns<S>, PlanError> {
        debug_assert!(self.takes_rows_at_once());
        let mut rows = self.rows_of_samples();
        rows.geometry.share = self.units_to_share(&rows.geometry);
        let chunks = self.chunks_of_rows(&rows.geometry);
        self.columns_of(rows, chunks, floats)
    }

    /// The parameters of [`whole`](Self::whole), in which each lane leaves an entry of `floats` floats for each value of its
    /// rows side by side; and those of the kernel that combines them by parameter. `None` if lanes have few rows, or leave too
    /// much.
    pub fn rows_side_by_side(
        &mut self,
        floats: u64,
    ) -> Result<Option<RowsAndColumns<S>>, PlanError> {
        let rows = self.whole();
        let geometry = &rows.geometry;
        let in_planes = self.partition.order == Order::Planes;
        if !in_planes || geometry.columns < FEW_ROWS || self.partition.parameters_per_sample() {
            return Ok(None);
        }
        let of_unit = geometry.columns * geometry.width;
        let rest = geometry.width.min(geometry.channels % of_unit);
        let chunks = geometry.channels / of_unit * geometry.width + rest;
        let left = 4 * floats * u64::from(chunks) * u64::from(self.partition.parameters);
        if chunks > MANY_CHUNKS || left > self.activation(X).bytes {
            return Ok(None);
        }
        self.columns_of(rows, chunks, floats).map(Some)
    }

    /// The parameters of a kernel that leaves an entry for each parameter of a sample in each of `chunks` chunks, those of one
    /// sample after those of another, and of the kernel that combines them.
    fn columns_of(
        &mut self,
        mut rows: Params<S>,
        chunks: u32,
        floats: u64,
    ) -> Result<RowsAndColumns<S>, PlanError> {
        let parameters = self.partition.parameters;
        let own = self.partition.sample_parameters;
        rows.reduction.chunk_stride = own;
        let head = u64::from(rows.reduction.head);
        let entries = head + u64::from(chunks) * u64::from(own);
        self.scratch = self.scratch.max(entries * floats);
        let chunks = chunks / (parameters / own);
        let mut columns = self.combination(chunks.into(), parameters)?;
        columns.geometry.channels = own;
        columns.reduction = Reduction {
            chunks,
            outer_stride: chunks * own,
            plane: 1,
            periods: 1,
            ..rows.reduction
        };
        Ok((rows, columns))
    }

    /// The parameters of [`resident`](Self::resident), with units of one sample's rows if each sample has parameters of its own.
    fn rows_of_samples(&self) -> Params<S> {
        let partition = self.partition.with_units_of_samples();
        self.over(partition.single_columns(self.tile))
    }

    /// The entries that workgroups leave for the parameters of one column, of all samples: one for each of WIDTH rows side by side.
    fn chunks_of_rows(&self, rows: &Geometry) -> u32 {
        rows.units / rows.outer_units * rows.outer_shares() * rows.width
    }

    /// The units that a workgroup takes one after the other.
    fn units_to_share(&self, rows: &Geometry) -> u32 {
        // Few workgroups leave little to combine, and many keep the device busy.
        let few = (rows.units / FEW_GROUPS).min(ROWS_TO_SHARE);
        let share = few.max(rows.units.div_ceil(wanted_groups(self.caps)));
        share.clamp(1, MOST_ROWS_TO_SHARE).min(rows.outer_units)
    }

    /// Whether [`rows_at_once`](Self::rows_at_once) serves the tensor: not if samples have so few rows that workgroups would
    /// be less than half full of them, and leave entries for those that are not there.
    pub fn takes_rows_at_once(&self) -> bool {
        let mut rows = self.rows_of_samples().geometry;
        rows.share = self.units_to_share(&rows);
        let places = u64::from(self.chunks_of_rows(&rows)) * u64::from(rows.share);
        !self.partition.parameters_per_sample() || places <= 2 * u64::from(rows.statistics)
    }

    /// The parameters of a kernel that takes the tensor window by window, on as many workgroups as pay.
    pub fn windows(&self) -> Vec<Params<S>> {
        let groups = wanted_groups(self.caps);
        let geometry = |window| self.partition.geometry(window, self.tile, groups);
        let windows = self.windows.iter();
        windows.map(|window| self.over(geometry(window))).collect()
    }

    fn all(&self) -> Range<u32> {
        0..self.partition.vectors()
    }

    fn over(&self, geometry: Geometry) -> Params<S> {
        let saved_statistics = self.params.geometry.saved_statistics;
        Params {
            geometry: Geometry {
                saved_statistics,
                ..geometry
            },
            ..self.params
        }
    }

    /// Reserves `entries` entries of `floats` floats at the head of scratch memory.
    pub fn reserve_head(&mut self, entries: u32, floats: u64) {
        self.params.reduction.head = entries;
        self.scratch = self.scratch.max(u64::from(entries) * floats);
    }

    /// Asks for as much scratch memory as another planner whose dispatches are in the same program.
    pub fn share_scratch(&mut self, other: &Self) {
        self.scratch = self.scratch.max(other.scratch);
    }

    /// Plans a reduction: one dispatch per window, each writing partial results of `floats` floats to scratch memory behind
    /// its head, and the parameters of the kernel that combines them.
    pub fn reduction(
        &mut self,
        floats: u64,
        dispatch: impl Fn(&Self, Params<S>) -> Dispatch<Params<S>>,
    ) -> Result<(Dispatches<S>, Params<S>), PlanError> {
        let windows = self.windows();
        let chunks = windows.iter().map(|window| window.geometry.chunks()).sum();
        let outer_stride = self.partition.outer_entries();
        let chunk_stride = u64::from(self.partition.outer) * outer_stride;
        let reduction = &mut self.params.reduction;
        // No device has memory for more entries, and `program` returns that error.
        reduction.chunk_stride = chunk_stride.try_into().unwrap_or(u32::MAX);
        reduction.outer_stride = outer_stride.try_into().unwrap_or(u32::MAX);
        reduction.plane = self.partition.entry_plane();
        reduction.periods = self.partition.periods;
        let scratch = (u64::from(reduction.head) + u64::from(chunks) * chunk_stride) * floats;
        self.scratch = self.scratch.max(scratch);
        let mut first_chunk = 0;
        let mut dispatches = Vec::new();
        for window in windows {
            let params = Params {
                reduction: Reduction {
                    first_chunk,
                    ..self.params.reduction
                },
                ..window
            };
            dispatches.push(dispatch(self, params));
            first_chunk += window.geometry.chunks();
        }
        let entries = u64::from(chunks)
            * u64::from(self.params.reduction.periods)
            * u64::from(self.params.reduction.plane);
        let mut params = self.combination(entries, self.partition.statistics())?;
        params.reduction.chunks = chunks;
        Ok((dispatches, params))
    }

    /// The parameters of a kernel that combines `entries` entries for each of `results` results: several results a
    /// workgroup, and as many rows of lanes as there are entries to read.
    pub fn combination(&self, entries: u64, results: u32) -> Result<Params<S>, PlanError> {
        let Tile {
            workgroup, lanes, ..
        } = self.tile;
        // A lane takes four entries at a time.
        let rounds = entries.div_ceil(4);
        let rows = if workgroup == lanes {
            // Lanes that run together take one result each, and need not wait for each other.
            rounds.div_ceil(MAX_ROUNDS)
        } else {
            rounds.min(workgroup.into())
        };
        let rows = rows.max(1).next_power_of_two();
        if rows > workgroup.into() || rounds.div_ceil(rows) > MAX_ROUNDS {
            return Err(PlanError::Unsupported {
                field: "parts",
                reason: "are too many for one kernel to combine; combine some of them first",
            });
        }
        let width = workgroup / rows as u32;
        Ok(self.over(Geometry {
            units: results.div_ceil(width),
            // One item, so that there is one workgroup to a unit.
            chunk: 1,
            item_end: 1,
            width,
            ..self.params.geometry
        }))
    }

    /// The parameters of a kernel that gives each of `results` results one lane.
    pub fn one_lane_each(&self, results: u32) -> Params<S> {
        self.over(Geometry {
            units: results.div_ceil(self.tile.workgroup),
            chunk: 1,
            item_end: 1,
            width: 1,
            ..self.params.geometry
        })
    }

    /// Parts of a batch, for a kernel that combines them.
    pub fn with_parts(params: Params<S>, parts: u32, part_stride: u32) -> Params<S> {
        Params {
            reduction: Reduction {
                parts,
                part_stride,
                ..params.reduction
            },
            ..params
        }
    }

    /// The dispatch of the kernel in file `name`.
    pub fn dispatch(
        &self,
        name: &'static str,
        choices: &[Choice],
        constants: &[(&'static str, u32)],
        params: Params<S>,
    ) -> Dispatch<Params<S>> {
        let geometry = &params.geometry;
        let widths = [("WIDTH", geometry.width), ("COLUMNS", geometry.columns)];
        // A dispatch's own files and values come first, and win.
        let choices = choices.iter().chain(&self.choices);
        let constants = constants.iter().chain(&widths).chain(&self.constants);
        Dispatch {
            kernel: KernelSpec {
                norm: self.norm.name,
                name,
                choices: first_of_each(choices.copied()),
                constants: first_of_each(constants.copied()),
            },
            window: geometry.vector_begin..geometry.vector_end,
            groups: geometry.groups(),
            params,
        }
    }

    /// An activation.
    pub fn activation(&self, field: Field) -> Need {
        let elements = self.partition.elements as usize;
        Need {
            field,
            bytes: self.problem.dtype.buffer_bytes(elements),
        }
    }

    /// `rows` rows of 4 bytes for each statistic.
    pub fn statistics(&self, field: Field, rows: u64) -> Need {
        Need {
            field,
            bytes: 4 * rows * u64::from(self.partition.statistics()),
        }
    }

    /// The statistics that a forward pass has saved.
    pub fn saved(&self, field: Field) -> Need {
        let statistics = u64::from(self.params.geometry.saved_statistics);
        Need {
            field,
            bytes: 12 * statistics,
        }
    }

    /// The files of a backward kernel that is the first to read the gradient, or follows such a kernel.
    pub fn incoming(&self) -> [Choice; 2] {
        match self.follows {
            false => self.epilogue.backward(),
            true => self.epilogue.backward_again(),
        }
    }

    /// Rows of weight and bias, or of their gradients; `None` if the configuration has neither.
    pub fn affine(&self, field: Field) -> Option<Need> {
        let bytes = 4 * self.affine_rows * u64::from(self.partition.parameters);
        (bytes > 0).then_some(Need { field, bytes })
    }

    /// Whether there is a weight or a bias. No samples have none of their own.
    pub fn has_parameters(&self) -> bool {
        self.affine_rows > 0 && self.partition.parameters > 0
    }

    /// Checks the limits, and assembles the program. `SCRATCH` need not be among `needs`.
    pub fn program(
        &self,
        dispatches: Vec<Dispatch<Params<S>>>,
        needs: Vec<Need>,
    ) -> Result<Program<Params<S>>, PlanError> {
        let mut needs = needs;
        needs.push(Need {
            field: SCRATCH,
            bytes: 4 * self.scratch,
        });
        let vector_bytes = 4 * self.problem.dtype.bytes();
        let windows = dispatches
            .iter()
            .map(|dispatch| u64::from(dispatch.window.end - dispatch.window.start) * vector_bytes);
        let whole = needs
            .iter()
            .filter(|need| !need.field.is_activation())
            .map(|need| need.bytes);
        let limit = |limit, needed, available| PlanError::Limit {
            limit,
            needed,
            available,
        };
        let largest = windows.chain(whole).max().unwrap_or(0);
        if largest > self.caps.max_binding {
            let available = self.caps.max_binding;
            return Err(limit("max_storage_buffer_binding_size", largest, available));
        }
        let max_groups = self.caps.max_groups;
        let rows = dispatches
            .iter()
            .map(|dispatch| dispatch.grid(max_groups)[1]);
        if let Some(rows) = rows.max().filter(|&rows| rows > max_groups) {
            return Err(limit(
                "max_compute_workgroups_per_dimension",
                rows.into(),
                max_groups.into(),
            ));
        }
        Ok(Program {
            sources: self.norm.sources,
            dispatches,
            needs,
            vector_bytes,
        })
    }
}

/// The file for the slot `element` that converts f16 so.
pub fn element_f16(conversion: F16Conversion) -> &'static str {
    match conversion {
        F16Conversion::Integers => "element_f16",
        F16Conversion::Packing => "element_f16_packing",
        F16Conversion::Native => "element_f16_native",
    }
}

/// The pairs, without those whose name came before.
fn first_of_each<T>(pairs: impl Iterator<Item = (&'static str, T)>) -> Vec<(&'static str, T)> {
    let mut first: Vec<(&'static str, T)> = Vec::new();
    for pair in pairs {
        if first.iter().all(|(name, _)| *name != pair.0) {
            first.push(pair);
        }
    }
    first
}
