//! How a tensor is divided: which values share statistics and parameters, and which of them a lane visits. The host's side
//! of `geometry.wgsl` and of the layouts.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use super::tile::Tile;
use crate::error::PlanError;
use crate::gpu::compose::Choice;
use crate::shape::{Layout, Shape, product};

/// The most values of a tensor: indices are u32, with room for whole vectors at the end.
pub const MAX_ELEMENTS: u64 = u32::MAX as u64 - 1023;

/// Planes of odd extent with at most this many values are walked in columns, where nothing has to be masked.
const SMALL_PLANE: u64 = 256;

/// Planes of at most this many values are always walked in columns: walking them channel by channel would touch too many
/// cache lines.
const TINY_PLANE: u64 = 16;

/// Fewest rows for which columns pay: below it, the partial results outweigh the data.
const MANY_ROWS: u64 = 16;

/// Planes that a lane takes side by side: as many as leave so many units, but not fewer than these.
const MANY_UNITS: u32 = 16;
const FEW_PLANES: u32 = 8;

/// Items that a reduction takes at a time, so that a team's items are a multiple of it.
const UNROLL: u64 = 4;

/// The fewest vectors of a long row.
const LONG_ROW: u32 = 1024;

/// The most rounds of one lane in one loop. llvmpipe silently ends every loop of an invocation when their rounds together
/// exceed 65,535; a kernel may take its items twice, and drivers add loops of their own.
pub const MAX_ROUNDS: u64 = 16_384;

/// The most vectors of the planes of one lane, which moments walk one plane after another: four vectors a round, and a round
/// more for each sixteen. Later loops take the planes side by side.
const MAX_VECTORS: u64 = 4 * MAX_ROUNDS;

/// Which values share statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// All values of a channel.
    Batch,
    /// The values of a channel in this many consecutive samples; the last group may have fewer. The columns of each sample in a
    /// table of rows; ghost batches.
    Samples(usize),
    /// The values of a channel in one sample.
    Instance,
    /// The values of one sample in one of this many groups of consecutive channels.
    Groups(usize),
    /// This many neighbours in memory: the trailing extents of a tensor, or some of them.
    Trailing(usize),
}

/// The uniform numbers of one dispatch: `Geometry` of `geometry.wgsl`, which explains the fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
pub struct Geometry {
    pub channels: u32,
    pub elements: u32,
    pub units: u32,
    pub chunk: u32,
    pub team_items: u32,
    pub item_begin: u32,
    pub item_end: u32,
    pub width: u32,
    pub team_rows: u32,
    pub span: u32,
    pub step_samples: u32,
    pub step_offset: u32,
    pub plane: u32,
    pub vector_begin: u32,
    pub vector_end: u32,
    pub columns: u32,
    pub outer_units: u32,
    pub outer_values: u32,
    pub outer_items: u32,
    pub statistics: u32,
    pub parameters: u32,
    pub parameter_plane: u32,
    pub inverse_parameter_plane: f32,
    pub saved_statistics: u32,
    pub share: u32,
    pub sample_parameters: u32,
    pub sample_values: u32,
    pub padding: u32,
}

impl Geometry {
    /// Number of workgroups.
    pub fn groups(&self) -> u32 {
        self.units * self.chunks()
    }

    /// Items that a lane visits.
    pub fn items_per_lane(&self) -> u32 {
        self.team_items / self.team_rows
    }

    /// The vectors that the lanes of a resident kernel hold: enough for their items, in steps, so that kernels are few.
    pub fn held_vectors(&self) -> u32 {
        self.items_per_lane().next_power_of_two().max(4)
    }

    /// Workgroups of one outer group, if each takes `share` units.
    pub fn outer_shares(&self) -> u32 {
        self.outer_units.div_ceil(self.share)
    }

    /// Workgroups that share a unit.
    pub fn chunks(&self) -> u32 {
        (self.item_end - self.item_begin).div_ceil(self.chunk)
    }
}

/// Which of the two layout files a kernel imports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `layout_planes.wgsl`
    Planes,
    /// `layout_columns.wgsl`
    Columns,
}

/// The division of a tensor, for any window and any tile.
///
/// The value at index `e` has the statistics `e / outer_values * channels + e / plane % channels` and the parameters
/// `e / sample_values * sample_parameters + e / parameter_plane % sample_parameters`. Those two formulas serve all norms.
/// Where the samples share their parameters, `sample_values` are all. For the other numbers:
///
/// | statistics over | layout | `plane` | `channels` | `outer_values` | `parameter_plane` |
/// |---|---|---|---|---|---|
/// | batch | channels first | `S` | `C` | all | `S` |
/// | batch | channels last | 1 | `C` | all | 1 |
/// | `g` samples | channels first | `S` | `C` | `g C S` | `S` |
/// | `g` samples | channels last | 1 | `C` | `g C S` | 1 |
/// | instance | channels first | `S` | `N C` | all | `S` |
/// | instance | channels last | 1 | `C` | `C S` | 1 |
/// | `G` groups | channels first | `S C / G` | `N G` | all | `S` |
/// | `G` groups | channels last | `C / G` | `G` | `C S` | 1 |
/// | trailing `L` | any | `L` | rows | all | 1 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub order: Order,
    /// Statistics of one outer group.
    pub channels: u32,
    pub elements: u32,
    /// Neighbouring values with the same statistics.
    pub plane: u32,
    /// Number of outer groups, and the values of one.
    pub outer: u32,
    pub outer_values: u32,
    pub parameters: u32,
    /// Neighbouring values with the same parameters.
    pub parameter_plane: u32,
    /// Parameters that one sample has, and the values that have them: a sample, or the whole tensor.
    pub sample_parameters: u32,
    pub sample_values: u32,
    /// Vectors per item count: of the window around a plane, or of a row.
    pub span: u32,
    /// How often a statistic recurs in a row of columns; 1 for planes.
    pub periods: u32,
    /// Whether a vector may hold values of two statistics or reach past the tensor's end.
    pub masked: bool,
}

/// The number of rows of `size` neighbours, if `size` is the product of the innermost extents.
pub fn rows(shape: Shape, size: usize) -> Option<usize> {
    let dims = shape.dims();
    let splits = (0..=dims.len()).map(|at| dims.split_at(at));
    let mut fitting = splits.filter(|(_, inner)| product(inner) == Some(size));
    fitting.find_map(|(outer, _)| product(outer))
}

/// What shares statistics and parameters, before it is decided how lanes walk.
struct Sharing {
    plane: u64,
    channels: u64,
    /// Planes of one statistic in an outer group.
    samples: u64,
    parameter_plane: u64,
    /// Whether values with the same statistics are strided, so that only columns serve.
    strided: bool,
}

impl Partition {
    /// The partition of a shape.
    pub fn of(shape: Shape, over: Over) -> Result<Self, PlanError> {
        let too_many = || PlanError::TooManyElements {
            shape,
            limit: MAX_ELEMENTS,
        };
        let count = |n: Option<usize>| match n {
            Some(n) if n as u64 <= MAX_ELEMENTS => Ok(n as u64),
            _ => Err(too_many()),
        };
        let elements = count(shape.elements())?;
        if matches!(over, Over::Trailing(size) if rows(shape, size).is_none()) {
            return Err(PlanError::Unsupported {
                field: "normalized_size",
                reason: "must be the product of the innermost extents of the tensor, in memory order",
            });
        }
        let parameters = count(Some(match over {
            Over::Trailing(size) => size,
            _ => shape.channels(),
        }))?;
        let channels_of_nothing = match over {
            Over::Batch => Some(shape.channels()),
            Over::Samples(samples) => shape
                .batch()
                .div_ceil(samples.max(1))
                .checked_mul(shape.channels()),
            Over::Instance => shape.batch().checked_mul(shape.channels()),
            Over::Groups(groups) => shape.batch().checked_mul(groups),
            Over::Trailing(size) => rows(shape, size),
        };
        if elements == 0 {
            // Nothing is walked; the other extents may be anything.
            return Ok(Self {
                order: Order::Columns,
                channels: count(channels_of_nothing)? as u32,
                elements: 0,
                plane: 1,
                outer: 1,
                outer_values: 0,
                parameters: parameters as u32,
                parameter_plane: 1,
                sample_parameters: parameters as u32,
                sample_values: 0,
                span: 1,
                periods: 1,
                masked: false,
            });
        }
        let Sharing {
            plane,
            channels,
            samples,
            parameter_plane,
            strided,
        } = Self::sharing(shape, over, elements)?;
        let outer_values = (plane * channels).saturating_mul(samples).min(elements);
        let outer = elements.div_ceil(outer_values);
        let row = channels * plane;
        // Whole vectors in planes have one statistic; vectors in columns keep their statistics through all items.
        let small = plane <= TINY_PLANE || (plane % 4 != 0 && plane <= SMALL_PLANE);
        let pays = small && outer_values / row >= MANY_ROWS && row.is_multiple_of(4);
        let order = match strided || plane < 4 || pays {
            true => Order::Columns,
            false => Order::Planes,
        };
        let (span, periods, masked) = match order {
            Order::Planes => {
                // A window around a plane of odd extent may begin at any component of a vector.
                let window = if plane % 4 == 0 {
                    plane / 4
                } else {
                    (plane + 6) / 4
                };
                (window, 1, plane % 4 != 0)
            }
            Order::Columns => {
                // As many rows of the tensor as it takes until the next one is aligned again.
                let rows = if row.is_multiple_of(4) {
                    1
                } else if row.is_multiple_of(2) {
                    2
                } else {
                    4
                };
                let item = row * rows;
                if outer > 1 && item > MAX_ELEMENTS {
                    return Err(too_many());
                }
                let whole = elements % item == 0 && (outer == 1 || outer_values % item == 0);
                (item / 4, rows, !whole)
            }
        };
        Ok(Self {
            order,
            channels: channels as u32,
            elements: elements as u32,
            plane: plane as u32,
            outer: outer as u32,
            outer_values: outer_values as u32,
            parameters: parameters as u32,
            parameter_plane: parameter_plane as u32,
            sample_parameters: parameters as u32,
            sample_values: elements as u32,
            // An odd row of 2^30 values and more has a span as long as itself, which fits.
            span: span as u32,
            periods: periods as u32,
            masked,
        })
    }

    fn sharing(shape: Shape, over: Over, elements: u64) -> Result<Sharing, PlanError> {
        let (batch, all) = (shape.batch() as u64, shape.channels() as u64);
        let plane = elements / batch / all;
        let unsupported = |field, reason| PlanError::Unsupported { field, reason };
        let groups = match over {
            Over::Groups(groups) if groups == 0 || all % groups as u64 != 0 => {
                return Err(unsupported(
                    "num_groups",
                    "must divide the number of channels",
                ));
            }
            Over::Groups(groups) => groups as u64,
            Over::Samples(0) => {
                return Err(unsupported("samples", "must be at least 1 a group"));
            }
            _ => 1,
        };
        // With one channel, or one position, the layouts are one.
        let last = shape.layout() == Layout::ChannelsLast && all > 1 && plane > 1;
        let sharing = |plane, channels, samples, parameter_plane| Sharing {
            plane,
            channels,
            samples,
            parameter_plane,
            strided: last,
        };
        Ok(match (over, last) {
            (Over::Batch, false) => sharing(plane, all, batch, plane),
            (Over::Batch, true) => sharing(1, all, batch * plane, 1),
            (Over::Samples(samples), false) => sharing(plane, all, samples as u64, plane),
            (Over::Samples(samples), true) => {
                sharing(1, all, plane.saturating_mul(samples as u64), 1)
            }
            (Over::Instance, false) => sharing(plane, batch * all, 1, plane),
            (Over::Instance, true) => sharing(1, all, plane, 1),
            (Over::Groups(_), false) => sharing(plane * (all / groups), batch * groups, 1, plane),
            (Over::Groups(_), true) => sharing(all / groups, groups, plane, 1),
            (Over::Trailing(size), _) => Sharing {
                plane: size as u64,
                channels: elements / size as u64,
                samples: 1,
                parameter_plane: 1,
                strided: false,
            },
        })
    }

    /// The same division, where each of `samples` samples has parameters of its own. They must be whole planes, or outer groups
    /// whose statistics and parameters have the same index.
    /// `None` for more parameters than a tensor may have values.
    pub fn with_parameters_of(self, samples: usize) -> Option<Self> {
        let parameters = u64::from(self.sample_parameters).checked_mul(samples as u64)?;
        let parameters = (parameters <= MAX_ELEMENTS).then_some(parameters as u32)?;
        Some(Self {
            parameters,
            sample_values: self.elements.checked_div(samples as u32).unwrap_or(0),
            ..self
        })
    }

    /// The same statistics and parameters, where units keep to the planes of one sample if each sample has parameters of its
    /// own: its last unit may have fewer. Each statistic must have one plane.
    pub fn with_units_of_samples(self) -> Self {
        if !self.parameters_per_sample() {
            return self;
        }
        Self {
            channels: self.sample_planes(),
            outer: self.elements / self.sample_values,
            outer_values: self.sample_values,
            ..self
        }
    }

    /// Whether each sample has parameters of its own.
    pub fn parameters_per_sample(&self) -> bool {
        self.parameters != self.sample_parameters
    }

    /// Planes of one sample's parameters.
    pub fn sample_planes(&self) -> u32 {
        self.sample_values / self.plane
    }

    /// The file that a kernel imports as `layout`.
    pub fn choice(&self) -> Choice {
        let file = match self.order {
            Order::Planes => "layout_planes",
            Order::Columns => "layout_columns",
        };
        ("layout", file)
    }

    /// The file that a kernel imports as `exchange`.
    pub fn exchange(&self) -> Choice {
        let file = match self.order {
            Order::Planes => "exchange_folded",
            Order::Columns => "exchange_whole",
        };
        ("exchange", file)
    }

    /// Whether the values of a plane have different parameters, which lanes must load beside x.
    pub fn parameters_vary(&self) -> bool {
        self.order == Order::Planes && self.parameter_plane < self.plane
    }

    /// Whether each plane has all parameters, as rows have.
    pub fn planes_have_all_parameters(&self) -> bool {
        self.plane / self.parameter_plane == self.sample_parameters
    }

    /// Whether the four components of a vector share parameters.
    pub fn parameters_share(&self) -> bool {
        let whole = self.parameter_plane.is_multiple_of(4) && !self.masked;
        self.order == Order::Planes && (whole || !self.parameters_vary())
    }

    /// Whether lanes load parameters beside x, and those of a vector are a whole vector, too.
    pub fn parameters_are_vectors(&self) -> bool {
        let whole = self.parameter_plane == 1 && self.sample_parameters.is_multiple_of(4);
        self.parameters_vary() && !self.masked && whole
    }

    /// Number of statistics.
    pub fn statistics(&self) -> u32 {
        self.outer * self.channels
    }

    /// Values that share one statistic. A smaller last outer group has fewer.
    pub fn values_per_statistic(&self) -> u32 {
        match self.channels {
            0 => 0,
            channels => self.outer_values / channels,
        }
    }

    /// Whether the parameters of a value have the index of its statistics.
    pub fn same_index(&self) -> bool {
        let together = self.outer == 1 || self.outer_values == self.sample_values;
        together && self.statistics() == self.parameters && self.plane == self.parameter_plane
    }

    /// The statistics of the value at an index in memory.
    #[cfg(test)]
    pub fn statistics_of(&self, element: u64) -> u32 {
        let within = element / u64::from(self.plane) % u64::from(self.channels);
        (element / u64::from(self.outer_values)) as u32 * self.channels + within as u32
    }

    /// The parameters of the value at an index in memory.
    #[cfg(test)]
    pub fn parameter_of(&self, element: u64) -> u32 {
        let own = u64::from(self.sample_parameters);
        let sample = element / u64::from(self.sample_values);
        (sample * own + element / u64::from(self.parameter_plane) % own) as u32
    }

    /// The vectors that hold the tensor.
    pub fn vectors(&self) -> u32 {
        self.elements.div_ceil(4)
    }

    /// Entries of one outer group in each chunk of partial results.
    pub fn outer_entries(&self) -> u64 {
        match self.order {
            Order::Planes => self.channels.into(),
            Order::Columns => 4 * u64::from(self.span),
        }
    }

    /// Neighbouring entries of a chunk that belong to one statistic.
    pub fn entry_plane(&self) -> u32 {
        match self.order {
            Order::Planes => 1,
            Order::Columns => self.plane,
        }
    }

    /// Whether the components of a lane's vectors keep their statistics, and no other lane has them. Then one workgroup
    /// may compute its unit's statistics alone.
    pub fn units_own_their_statistics(&self) -> bool {
        match self.order {
            Order::Planes => !self.masked,
            Order::Columns => self.plane == 1 && self.periods == 1,
        }
    }

    /// The units that the tensor is cut into: planes, some of them side by side, or strips of columns, of all outer groups.
    pub fn units(&self, tile: Tile) -> u32 {
        self.outer * self.outer_units(tile)
    }

    fn outer_units(&self, tile: Tile) -> u32 {
        match self.order {
            Order::Planes => self
                .channels
                .div_ceil(self.width(tile) * self.columns(tile)),
            Order::Columns => self.span.div_ceil(self.width(tile) * self.columns(tile)),
        }
    }

    /// Whether rows are whole samples of small planes, and so long that a lane gains little from more columns.
    pub fn rows_are_long(&self) -> bool {
        self.order == Order::Columns && self.plane > 1 && self.span >= LONG_ROW
    }

    /// Vector columns of each lane: a power of two that leaves few of them beyond the row.
    fn columns(&self, tile: Tile) -> u32 {
        let width = self.width(tile);
        if self.order == Order::Planes {
            return self.plane_columns(tile, width);
        }
        // Where groups share vectors, each column of a lane would need the coefficients of the next group.
        let shared = self.outer > 1 && self.masked;
        if width < tile.workgroup || shared {
            return 1;
        }
        let all = self.span.div_ceil(width);
        let waste = |columns: u32| all.next_multiple_of(columns) - all;
        let mut columns = tile.columns;
        while columns > 1 && waste(columns) > all / 8 {
            columns /= 2;
        }
        columns
    }

    /// Planes of each lane: several, if each lane has planes of its own, and a vector's parameters are the same in all planes.
    fn plane_columns(&self, tile: Tile, width: u32) -> u32 {
        let same = self.parameters_vary() && !self.masked && self.planes_have_all_parameters();
        let planes = self.channels / width;
        let most = (planes / MANY_UNITS).max(FEW_PLANES).min(planes).max(1);
        if !same || width < tile.workgroup {
            return 1;
        }
        // The planes of a lane have the parameters of one sample.
        let planes = match self.parameters_per_sample() {
            true => self.sample_planes(),
            false => 0,
        };
        let mut columns = tile.columns.min(1 << most.ilog2());
        let too_long = |columns: u32| u64::from(columns) * u64::from(self.span) > MAX_VECTORS;
        while columns > 1 && (too_long(columns) || !planes.is_multiple_of(width * columns)) {
            columns /= 2;
        }
        columns
    }

    /// Lanes across an item: of several small planes, or of a row.
    fn width(&self, tile: Tile) -> u32 {
        match self.order {
            Order::Planes if self.planes_are_units() => {
                tile.workgroup / tile.plane_lanes(self.span)
            }
            Order::Planes => 1,
            // A span that fits is far below the largest power of two.
            Order::Columns => tile.lanes.min(self.span.min(256).next_power_of_two()),
        }
    }

    /// Whether each statistic has one plane.
    fn planes_are_units(&self) -> bool {
        u64::from(self.channels) * u64::from(self.plane) == u64::from(self.outer_values)
    }

    /// Whether one workgroup can walk a whole unit.
    pub fn units_are_short(&self, tile: Tile) -> bool {
        self.elements == 0 || self.geometry(&(0..self.vectors()), tile, 1).chunks() == 1
    }

    /// The geometry of whole units, each in one workgroup, by lanes with one column each.
    pub fn single_columns(&self, tile: Tile) -> Geometry {
        let tile = Tile { columns: 1, ..tile };
        self.geometry(&(0..self.vectors()), tile, 1)
    }

    /// The most items that an outer group reaches into.
    fn outer_items(&self) -> u64 {
        let (values, span) = (u64::from(self.outer_values), u64::from(self.span));
        match self.order {
            Order::Planes => {
                values / (u64::from(self.channels) * u64::from(self.plane)).max(1) * span
            }
            Order::Columns if self.outer == 1 || values % (4 * span) == 0 => {
                values.div_ceil(4 * span)
            }
            // A group may begin at any value of an item.
            Order::Columns => (values + 8 * span - 2) / (4 * span),
        }
    }

    /// The items of a window, counted from the first of a unit.
    fn items(&self, vectors: &Range<u32>) -> Range<u64> {
        let span = u64::from(self.span);
        match self.order {
            _ if self.outer > 1 => 0..self.outer_items(),
            Order::Planes => {
                let sample = u64::from(self.channels) * u64::from(self.plane);
                let end = (4 * u64::from(vectors.end)).min(self.elements.into());
                4 * u64::from(vectors.start) / sample * span..end.div_ceil(sample) * span
            }
            Order::Columns => {
                u64::from(vectors.start) / span..u64::from(vectors.end).div_ceil(span)
            }
        }
    }

    /// The geometry of a range of vectors, on about this many workgroups.
    pub fn geometry(&self, vectors: &Range<u32>, tile: Tile, groups: u32) -> Geometry {
        let items = self.items(vectors);
        let width = self.width(tile);
        let team_rows = match self.order {
            Order::Planes => tile.lanes.min(tile.workgroup / width),
            Order::Columns => (tile.lanes / width).max(1),
        };
        let columns = self.columns(tile);
        let units = self.units(tile);
        let teams = u64::from(tile.workgroup / (width * team_rows));
        let wanted = u64::from((groups / units).max(1));
        let share = (items.end - items.start).div_ceil(wanted).div_ceil(teams);
        let share = share.min(MAX_ROUNDS * u64::from(team_rows));
        let whole = if share > u64::from(team_rows) {
            UNROLL * u64::from(team_rows)
        } else {
            team_rows.into()
        };
        let team_items = share.next_multiple_of(whole);
        let chunk = team_items * teams;
        Geometry {
            units,
            chunk: chunk as u32,
            team_items: team_items as u32,
            item_begin: items.start as u32,
            item_end: items.end as u32,
            width,
            team_rows,
            step_samples: team_rows / self.span,
            step_offset: team_rows % self.span,
            vector_begin: vectors.start,
            vector_end: vectors.end,
            columns,
            outer_units: self.outer_units(tile),
            outer_items: self.outer_items() as u32,
            ..self.indices()
        }
    }

    /// What a kernel needs that walks no values: the numbers that indices are computed from.
    pub fn indices(&self) -> Geometry {
        Geometry {
            channels: self.channels,
            elements: self.elements,
            span: self.span,
            plane: self.plane,
            outer_values: self.outer_values,
            statistics: self.statistics(),
            parameters: self.parameters,
            parameter_plane: self.parameter_plane,
            inverse_parameter_plane: 1.0 / self.parameter_plane as f32,
            sample_parameters: self.sample_parameters,
            sample_values: self.sample_values,
            saved_statistics: self.statistics(),
            ..Geometry::default()
        }
    }

    /// The tensor's vectors in ranges of at most `max_bytes`, each beginning at a multiple of 256 bytes.
    /// `max_bytes` is at least 256, and `vector_bytes` divides it.
    pub fn windows(&self, max_bytes: u64, vector_bytes: u64) -> Vec<Range<u32>> {
        let most = (max_bytes / 256 * (256 / vector_bytes)).min(u32::MAX.into()) as u32;
        (0..self.vectors())
            .step_by(most as usize)
            .map(|begin| begin..begin.saturating_add(most).min(self.vectors()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILE: Tile = Tile {
        workgroup: 64,
        lanes: 32,
        columns: 1,
    };

    #[test]
    fn spans_cover_what_they_walk() {
        let partition = |line: &str| Partition::of(line.parse().unwrap(), Over::Batch).unwrap();
        let planes = partition("n2c3h7w7");
        assert_eq!(
            (planes.order, planes.span, planes.masked),
            (Order::Planes, 13, true)
        );
        assert!(planes.masked && !planes.units_own_their_statistics());
        let aligned = partition("n2c3h8w8");
        assert_eq!((aligned.span, aligned.masked), (16, false));
        let odd = partition("n5c3h2w2 nhwc");
        assert_eq!((odd.order, odd.span, odd.periods), (Order::Columns, 3, 4));
        assert!(!odd.masked, "20 rows are 5 times 4");
        assert_eq!(partition("n5c6").periods, 2);
        let small_planes = partition("n8c3h1w2");
        assert_eq!((small_planes.plane, small_planes.span), (2, 3));
    }

    #[test]
    fn the_widest_tensors_do_not_overflow() {
        for shape in [
            Shape::nc(1, MAX_ELEMENTS as usize),
            Shape::nc(2, MAX_ELEMENTS as usize / 2),
            Shape::nc(5, 858_993_201),
            Shape::nchw(MAX_ELEMENTS as usize, 1, 1, 1),
            Shape::nchw(1, 1, 1, MAX_ELEMENTS as usize),
            Shape::nchw(MAX_ELEMENTS as usize / 5, 1, 1, 5),
        ] {
            let partition = Partition::of(shape, Over::Batch).unwrap();
            for window in partition.windows(1 << 30, 16) {
                let geometry = partition.geometry(&window, TILE, 1024);
                let covered = u64::from(geometry.chunk) * u64::from(geometry.chunks());
                assert!(
                    covered >= u64::from(geometry.item_end - geometry.item_begin),
                    "{shape}"
                );
                assert!(u64::from(geometry.item_end) + covered < 1 << 33, "{shape}");
                assert!(
                    u64::from(geometry.items_per_lane()) <= MAX_ROUNDS,
                    "{shape}"
                );
            }
        }
        // A lane walks several rows, one after another.
        for (row, tile) in [(65_536, Tile::new(1, 1)), (16_384, Tile::new(8, 8))] {
            let rows = Partition::of(Shape::nc(4096, row), Over::Trailing(row)).unwrap();
            let geometry = rows.geometry(&(0..rows.vectors()), tile.columns(16), 1);
            let vectors = u64::from(geometry.items_per_lane()) * u64::from(geometry.columns);
            assert!(geometry.columns > 1 && vectors <= MAX_VECTORS, "{tile}");
        }
        assert!(Partition::of(Shape::nc(2, MAX_ELEMENTS as usize), Over::Batch).is_err());
        assert!(Partition::of(Shape::nc(usize::MAX, usize::MAX), Over::Batch).is_err());
    }

    #[test]
    fn windows_are_aligned_and_complete() {
        let partition = Partition::of(Shape::nchw(3, 5, 9, 9), Over::Batch).unwrap();
        for max_bytes in [256, 300, 1024, 1 << 20] {
            let windows = partition.windows(max_bytes, 16);
            let mut next = 0;
            for window in &windows {
                assert_eq!(window.start, next);
                assert_eq!(window.start % 16, 0);
                assert!(u64::from(window.end - window.start) * 16 <= max_bytes);
                next = window.end;
            }
            assert_eq!(next, partition.vectors());
        }
    }
}
