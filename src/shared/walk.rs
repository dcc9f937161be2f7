//! Which values an invocation visits: the plan's side of `walk.wgsl` and of the layouts.

use std::ops::Range;

use bytemuck::{Pod, Zeroable};

use crate::error::PlanError;
use crate::gpu::compose::Choice;
use crate::shape::{Layout, Shape};

/// The most values of a tensor: indices are u32, with room for whole vectors at the end.
pub const MAX_ELEMENTS: u64 = u32::MAX as u64 - 1023;

/// The most of `Tile::columns`: there is a `columns_16.wgsl`.
pub const MAX_COLUMNS: u32 = 16;

/// Odd planes of so many values and fewer are walked in columns: nothing has to be masked there.
const SMALL_PLANE: u64 = 256;

/// So are all planes of so many values and fewer: a channel would be gathered from too many places.
const TINY_PLANE: u64 = 16;

/// The least rows of columns for which that pays. Each column has a partial result, four vectors of it, and
/// this many to read.
const MANY_ROWS: u64 = 16;

/// Items that a reduction takes at a time, so a tile is a multiple of it.
const UNROLL: u64 = 4;

/// The most rounds of one invocation in one loop. llvmpipe ends every loop of an invocation, without a word,
/// when their rounds together come to 65,536; a kernel may take its items twice, and drivers count rounds of their own.
pub const MAX_STEPS: u64 = 16_384;

/// The walk of one dispatch: `Geometry` of `walk.wgsl`, which explains the fields.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Geometry {
    pub channels: u32,
    pub elements: u32,
    pub units: u32,
    pub chunk: u32,
    pub tile: u32,
    pub item_begin: u32,
    pub item_end: u32,
    pub width: u32,
    pub step: u32,
    pub span: u32,
    pub step_samples: u32,
    pub step_offset: u32,
    pub plane: u32,
    pub vector_begin: u32,
    pub vector_end: u32,
    pub columns: u32,
}

impl Geometry {
    /// The workgroups that cover it.
    pub fn groups(&self) -> u32 {
        self.units * self.chunks()
    }

    /// The items that a lane visits.
    pub fn visits(&self) -> u32 {
        self.tile / self.step
    }

    /// The workgroups that share a unit.
    pub fn chunks(&self) -> u32 {
        (self.item_end - self.item_begin).div_ceil(self.chunk)
    }
}

/// The size of workgroups, and how the invocations in one walk together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Invocations in a workgroup: a power of two, at most 256.
    pub workgroup: u32,
    /// Invocations that walk neighbouring vectors: a power of two, at most `workgroup`. Best is what the
    /// hardware runs together.
    pub lanes: u32,
    /// Vector columns that an invocation takes side by side where channels are neighbours in memory: 1, 2, 4, 8
    /// or 16. More than one is for adapters on which `lanes` invocations run alone for a while, and then should
    /// walk long pieces of rows; it takes as many times the registers. Without effect where `workgroup` is
    /// above `lanes`.
    pub columns: u32,
}

/// Which of the two layout files walks a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `layout_planes.wgsl`
    Planes,
    /// `layout_columns.wgsl`
    Columns,
}

/// How a tensor is walked, whichever part of it and with whatever tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    pub order: Order,
    pub channels: u32,
    pub elements: u32,
    /// Neighbouring values of one channel.
    pub plane: u32,
    /// Vectors that an item counts through: of a plane's window, or of a row of columns.
    pub span: u32,
    /// How often a channel recurs in a row of columns; 1 for planes.
    pub periods: u32,
    /// Whether a vector may hold values of two channels or reach past the tensor's end.
    pub masked: bool,
}

impl Walk {
    /// The walk of a shape.
    pub fn of(shape: Shape) -> Result<Self, PlanError> {
        let too_many = PlanError::TooManyElements {
            shape,
            limit: MAX_ELEMENTS,
        };
        let count = |n: Option<usize>| match n {
            Some(n) if n as u64 <= MAX_ELEMENTS => Ok(n as u64),
            _ => Err(too_many.clone()),
        };
        let elements = count(shape.elements())?;
        if elements == 0 {
            // Nothing is walked; the other extents may be anything.
            return Ok(Self {
                order: Order::Columns,
                channels: count(Some(shape.channels()))? as u32,
                elements: 0,
                plane: 1,
                span: 1,
                periods: 1,
                masked: false,
            });
        }
        let channels = shape.channels() as u64;
        let plane = match shape.layout() {
            Layout::ChannelsFirst => elements / channels / shape.batch() as u64,
            Layout::ChannelsLast => 1,
        };
        // Whole vectors in planes are one channel's; those in columns keep their channels all the way down.
        let samples = elements / (channels * plane);
        let small = plane <= TINY_PLANE || (plane % 4 != 0 && plane <= SMALL_PLANE);
        let columns =
            plane < 4 || (small && samples >= MANY_ROWS && (channels * plane).is_multiple_of(4));
        let planes = !columns;
        let (span, periods, masked) = if planes {
            // A window around a plane of odd extent may begin at any component of a vector.
            let window = if plane % 4 == 0 {
                plane / 4
            } else {
                (plane + 6) / 4
            };
            (window, 1, plane % 4 != 0)
        } else {
            // A row of columns: so many rows of the tensor that the next one is aligned again.
            let row = channels * plane;
            let rows = if row.is_multiple_of(4) {
                1
            } else if row.is_multiple_of(2) {
                2
            } else {
                4
            };
            let span = row * rows / 4;
            (span, rows, elements % (4 * span) != 0)
        };
        Ok(Self {
            order: if planes {
                Order::Planes
            } else {
                Order::Columns
            },
            channels: channels as u32,
            elements: elements as u32,
            plane: plane as u32,
            // An odd row of 2^30 values and more has a span as long as itself, which fits.
            span: span as u32,
            periods: periods as u32,
            masked,
        })
    }

    /// The file that `layout` stands for.
    pub fn choice(&self) -> Choice {
        let file = match self.order {
            Order::Planes => "layout_planes",
            Order::Columns => "layout_columns",
        };
        ("layout", file)
    }

    /// The vectors that hold the tensor.
    pub fn vectors(&self) -> u32 {
        self.elements.div_ceil(4)
    }

    /// The components that have a partial result in each chunk: channels, or those of vector columns.
    pub fn partial_components(&self) -> u64 {
        match self.order {
            Order::Planes => self.channels.into(),
            Order::Columns => 4 * u64::from(self.span),
        }
    }

    /// The neighbouring components of a partial result that belong to one channel.
    pub fn partial_plane(&self) -> u32 {
        match self.order {
            Order::Planes => 1,
            Order::Columns => self.plane,
        }
    }

    /// Whether each component of a lane's vectors keeps one channel, and no other lane has that channel.
    /// Then a workgroup may settle its channels alone.
    pub fn units_own_their_channels(&self) -> bool {
        match self.order {
            Order::Planes => !self.masked,
            Order::Columns => self.plane == 1 && self.periods == 1,
        }
    }

    /// The units that the tensor is cut into: channels, or strips of columns.
    pub fn units(&self, tile: Tile) -> u32 {
        match self.order {
            Order::Planes => self.channels,
            Order::Columns => self.span.div_ceil(self.width(tile) * self.columns(tile)),
        }
    }

    /// Vector columns of each lane: a power of two that leaves few of them beyond the row.
    fn columns(&self, tile: Tile) -> u32 {
        let width = self.width(tile);
        if self.order == Order::Planes || width < tile.workgroup {
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

    fn width(&self, tile: Tile) -> u32 {
        match self.order {
            Order::Planes => 1,
            // A span that fits is far below the largest power of two.
            Order::Columns => tile.lanes.min(self.span.min(256).next_power_of_two()),
        }
    }

    /// Whether one workgroup can walk a whole unit.
    pub fn units_are_short(&self, tile: Tile) -> bool {
        self.elements == 0 || self.geometry(&(0..self.vectors()), tile, 1).chunks() == 1
    }

    /// The walk of whole units, each in one workgroup, by lanes that keep one column each.
    pub fn single_columns(&self, tile: Tile) -> Geometry {
        let tile = Tile { columns: 1, ..tile };
        self.geometry(&(0..self.vectors()), tile, 1)
    }

    /// The walk over a range of vectors, on about so many workgroups.
    pub fn geometry(&self, vectors: &Range<u32>, tile: Tile, groups: u32) -> Geometry {
        let span = u64::from(self.span);
        let items = match self.order {
            Order::Planes => {
                let sample = u64::from(self.channels) * u64::from(self.plane);
                let end = (4 * u64::from(vectors.end)).min(self.elements.into());
                4 * u64::from(vectors.start) / sample * span..end.div_ceil(sample) * span
            }
            Order::Columns => {
                u64::from(vectors.start) / span..u64::from(vectors.end).div_ceil(span)
            }
        };
        let width = self.width(tile);
        let step = (tile.lanes / width).max(1);
        let columns = self.columns(tile);
        let units = self.units(tile);
        let teams = u64::from(tile.workgroup / (width * step));
        let wanted = u64::from((groups / units).max(1));
        let share = (items.end - items.start).div_ceil(wanted).div_ceil(teams);
        let share = share.min(MAX_STEPS * u64::from(step));
        let whole = if share > u64::from(step) {
            UNROLL * u64::from(step)
        } else {
            step.into()
        };
        let tile = share.next_multiple_of(whole);
        let chunk = tile * teams;
        Geometry {
            channels: self.channels,
            elements: self.elements,
            units,
            chunk: chunk as u32,
            tile: tile as u32,
            item_begin: items.start as u32,
            item_end: items.end as u32,
            width,
            step,
            span: self.span,
            step_samples: step / self.span,
            step_offset: step % self.span,
            plane: self.plane,
            vector_begin: vectors.start,
            vector_end: vectors.end,
            columns,
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
        let walk = |line: &str| Walk::of(line.parse().unwrap()).unwrap();
        let planes = walk("n2c3h7w7");
        assert_eq!(
            (planes.order, planes.span, planes.masked),
            (Order::Planes, 13, true)
        );
        assert!(planes.masked && !planes.units_own_their_channels());
        let aligned = walk("n2c3h8w8");
        assert_eq!((aligned.span, aligned.masked), (16, false));
        let odd = walk("n5c3h2w2 nhwc");
        assert_eq!((odd.order, odd.span, odd.periods), (Order::Columns, 3, 4));
        assert!(!odd.masked, "20 rows are 5 times 4");
        assert_eq!(walk("n5c6").periods, 2);
        let small_planes = walk("n8c3h1w2");
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
            let walk = Walk::of(shape).unwrap();
            for window in walk.windows(1 << 30, 16) {
                let geometry = walk.geometry(&window, TILE, 1024);
                let covered = u64::from(geometry.chunk) * u64::from(geometry.chunks());
                assert!(
                    covered >= u64::from(geometry.item_end - geometry.item_begin),
                    "{shape}"
                );
                assert!(u64::from(geometry.item_end) + covered < 1 << 33, "{shape}");
                assert!(
                    u64::from(geometry.tile / geometry.step) <= MAX_STEPS,
                    "{shape}"
                );
            }
        }
        assert!(Walk::of(Shape::nc(2, MAX_ELEMENTS as usize)).is_err());
        assert!(Walk::of(Shape::nc(usize::MAX, usize::MAX)).is_err());
    }

    #[test]
    fn windows_are_aligned_and_complete() {
        let walk = Walk::of(Shape::nchw(3, 5, 9, 9)).unwrap();
        for max_bytes in [256, 300, 1024, 1 << 20] {
            let windows = walk.windows(max_bytes, 16);
            let mut next = 0;
            for window in &windows {
                assert_eq!(window.start, next);
                assert_eq!(window.start % 16, 0);
                assert!(u64::from(window.end - window.start) * 16 <= max_bytes);
                next = window.end;
            }
            assert_eq!(next, walk.vectors());
        }
    }
}
