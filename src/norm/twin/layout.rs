//! The twins of `lane_range.wgsl`, `layout_planes.wgsl` and `layout_columns.wgsl`.

use crate::norm::partition::{Geometry, Order};

/// `LaneRange` of `lane_range.wgsl`: a lane's range of items in one dispatch.
#[derive(Clone, Copy, Debug)]
pub struct LaneRange {
    order: Order,
    geometry: Geometry,
    outer: u32,
    /// Counted within the outer group.
    unit: u32,
    /// The lane's place across.
    column: u32,
    item: u32,
    end: u32,
}

/// `Place` of `lane_range.wgsl`, with the index of the vector's first value in the tensor.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub element: u64,
    pub inside: [bool; 4],
    pub next: [bool; 4],
    pub owned: bool,
    pub varying_index: [usize; 4],
}

impl LaneRange {
    pub fn new(order: Order, geometry: Geometry, work: u32, lane: u32) -> Self {
        let range = Self::unclipped(order, geometry, work, lane);
        match order {
            Order::Planes => {
                let unit = range.unit * geometry.columns * geometry.width + range.column;
                let end = if unit < geometry.channels {
                    range.end
                } else {
                    0
                };
                Self { unit, end, ..range }
            }
            Order::Columns => range,
        }
    }

    fn unclipped(order: Order, geometry: Geometry, work: u32, lane: u32) -> Self {
        let (unit, chunk) = (work % geometry.units, work / geometry.units);
        let row = lane / geometry.width;
        let chunk_begin = geometry.item_begin + chunk * geometry.chunk;
        let team_begin = chunk_begin + row / geometry.team_rows * geometry.team_items;
        Self {
            order,
            geometry,
            outer: unit / geometry.outer_units,
            unit: unit % geometry.outer_units,
            column: lane % geometry.width,
            item: team_begin + row % geometry.team_rows,
            end: (team_begin + geometry.team_items)
                .min(chunk_begin + geometry.chunk)
                .min(geometry.item_end),
        }
    }

    /// The places that the lane visits in its column `j`, in order. What the kernels skip because a unit has no values
    /// there, they visit without effect.
    pub fn places(&self, j: u32) -> impl Iterator<Item = Place> {
        let range = *self;
        (range.item..range.end)
            .step_by(range.geometry.team_rows as usize)
            .map(move |item| range.place(item, j))
    }

    fn place(&self, item: u32, j: u32) -> Place {
        let g = &self.geometry;
        let (span, outer) = (u64::from(g.span), u64::from(self.outer));
        let outer_begin = outer * u64::from(g.outer_values);
        let outer_end = (outer_begin + u64::from(g.outer_values)).min(g.elements.into());
        let (vector, begin, end) = match self.order {
            Order::Planes => {
                let plane = u64::from(g.plane);
                let sample = outer_begin / (u64::from(g.channels) * plane) + u64::from(item) / span;
                let begin = (sample * u64::from(g.channels) + u64::from(self.plane(j))) * plane;
                let end = (begin + plane).min(outer_end);
                (begin / 4 + u64::from(item) % span, begin, end)
            }
            Order::Columns => {
                let item = outer_begin / (4 * span) + u64::from(item);
                let vector = item * span + u64::from(self.vector_column(j));
                (vector, outer_begin, outer_end)
            }
        };
        let bound = self.has_values(j)
            && (u64::from(g.vector_begin)..u64::from(g.vector_end)).contains(&vector);
        let element = 4 * vector;
        let components = std::array::from_fn(|c| element + c as u64);
        Place {
            element,
            inside: components.map(|e| bound && (begin..end).contains(&e)),
            next: components.map(|e| e >= end),
            owned: bound && (begin..end).contains(&element),
            varying_index: components.map(|e| match self.order {
                Order::Planes => {
                    let own = u64::from(g.sample_parameters);
                    let sample = e / u64::from(g.sample_values);
                    let index = sample * own + e / u64::from(g.parameter_plane) % own;
                    (index % u64::from(g.parameters)) as usize
                }
                Order::Columns => (e / (u64::from(g.channels) * u64::from(g.plane))) as usize,
            }),
        }
    }

    /// The lane's columns that lie in the row.
    pub fn columns(&self) -> impl Iterator<Item = u32> {
        let range = *self;
        (0..range.geometry.columns).filter(move |&j| range.has_values(j))
    }

    /// The lane's plane `j`, in an outer group.
    fn plane(&self, j: u32) -> u32 {
        self.unit + j * self.geometry.width
    }

    fn vector_column(&self, j: u32) -> u32 {
        (self.unit * self.geometry.columns + j) * self.geometry.width + self.column
    }

    pub fn has_values(&self, j: u32) -> bool {
        match self.order {
            Order::Planes => self.plane(j) < self.geometry.channels,
            Order::Columns => self.vector_column(j) < self.geometry.span,
        }
    }

    /// The components that have an entry of their own in a chunk of partial results, and the first one's entry.
    pub fn entries(&self, j: u32) -> (u32, usize) {
        match self.order {
            Order::Planes => (self.outer * self.geometry.channels + self.plane(j), 1),
            Order::Columns => (
                4 * (self.outer * self.geometry.span + self.vector_column(j)),
                4,
            ),
        }
    }

    /// `index_in_row` of `layout_columns.wgsl`.
    fn index_in_row(&self, j: u32, plane: u32, count: u32) -> [usize; 4] {
        std::array::from_fn(|c| ((4 * self.vector_column(j) + c as u32) / plane % count) as usize)
    }

    /// The statistics of a vector's four components.
    pub fn statistics_index(&self, j: u32) -> [usize; 4] {
        let g = &self.geometry;
        let within = match self.order {
            Order::Planes => [self.plane(j) as usize; 4],
            Order::Columns => self.index_in_row(j, g.plane, g.channels),
        };
        within.map(|index| (self.outer * g.channels) as usize + index)
    }

    /// The statistics of the components that are `next`.
    pub fn next_statistics_index(&self, j: u32) -> [usize; 4] {
        let step = match self.order {
            Order::Planes => 1,
            Order::Columns => self.geometry.channels as usize,
        };
        let all = self.geometry.statistics as usize;
        self.statistics_index(j).map(|index| (index + step) % all)
    }

    /// The parameters of a vector's four components.
    pub fn parameter_index(&self, j: u32) -> [usize; 4] {
        let g = &self.geometry;
        match self.order {
            Order::Planes => [(self.plane(j) % g.parameters) as usize; 4],
            // An outer group is a sample.
            Order::Columns if g.outer_values < g.elements && g.parameters > g.sample_parameters => {
                self.statistics_index(j)
            }
            Order::Columns => {
                let own = g.sample_parameters;
                let sample = self.index_in_row(j, g.sample_values, g.parameters / own);
                let index = self.index_in_row(j, g.parameter_plane, own);
                std::array::from_fn(|c| sample[c] * own as usize + index[c])
            }
        }
    }

    /// The parameters of the components that are `next`.
    pub fn next_parameter_index(&self, j: u32) -> [usize; 4] {
        let g = &self.geometry;
        match self.order {
            Order::Planes => [((self.unit + 1) % g.parameters) as usize; 4],
            Order::Columns if g.outer_values < g.elements => {
                let own = g.sample_parameters as usize;
                let index = self.parameter_index(j);
                index.map(|index| (index + own) % g.parameters as usize)
            }
            Order::Columns => self.parameter_index(j),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Shape;
    use crate::norm::partition::{Over, Partition};
    use crate::norm::tile::Tile;

    /// The statistics of a value by its place in the batch, not by its index.
    fn statistics(shape: Shape, over: Over, element: usize) -> u32 {
        let (all, plane) = (shape.channels(), shape.plane().unwrap());
        let sample = element / (all * plane);
        let channel = shape.channel_of(element);
        let index = match over {
            Over::Batch => channel,
            Over::Samples(samples) => sample / samples * all + channel,
            Over::Instance => sample * all + channel,
            Over::Groups(groups) => sample * groups + channel / (all / groups),
            Over::Trailing(size) => element / size,
        };
        index as u32
    }

    /// Every value is inside exactly one place, with its own statistics; every vector has one owner.
    #[test]
    fn ranges_visit_every_value_once_and_own_every_vector_once() {
        let mut shapes = Vec::new();
        for layout in ["nchw", "nhwc"] {
            for (n, c, h, w) in [
                (1, 1, 1, 1),
                (2, 3, 1, 1),
                (3, 5, 1, 2),
                (3, 4, 1, 3),
                (2, 8, 2, 2),
                (4, 3, 7, 7),
                (1, 7, 5, 1),
                (5, 1, 3, 11),
                (2, 6, 16, 17),
                (3, 130, 1, 1),
                (16, 12, 5, 1),
            ] {
                shapes.push(format!("n{n}c{c}h{h}w{w} {layout}"));
            }
        }
        let tiles = [
            (1, 1, 1),
            (8, 8, 1),
            (8, 8, 2),
            (1, 1, 16),
            (64, 32, 1),
            (4, 4, 8),
            (4, 2, 1),
            (2, 1, 1),
        ]
        .map(|(workgroup, lanes, columns)| Tile::new(workgroup, lanes).columns(columns));
        let mut checked = 0;
        for line in shapes {
            let shape: Shape = line.parse().unwrap();
            let groups = |n| {
                shape
                    .channels()
                    .is_multiple_of(n)
                    .then_some(Over::Groups(n))
            };
            let overs = [
                Some(Over::Batch),
                Some(Over::Samples(2)),
                Some(Over::Samples(3)),
                Some(Over::Instance),
                groups(2),
                groups(1),
                Some(Over::Trailing(shape.channels())),
                shape.plane().map(Over::Trailing),
                shape.elements().map(Over::Trailing),
            ];
            for over in overs.into_iter().flatten() {
                let Ok(partition) = Partition::of(shape, over) else {
                    assert!(matches!(over, Over::Trailing(_)), "{line}");
                    continue;
                };
                let (samples, elements) = (shape.batch(), partition.elements as usize);
                for element in 0..elements {
                    let expected = statistics(shape, over, element);
                    let actual = partition.statistics_of(element as u64);
                    assert_eq!(actual, expected, "{line} {over:?}");
                }
                let own = partition.with_parameters_of(samples).unwrap();
                // Samples may have parameters of their own if they are whole planes, or outer groups with the same index.
                let apart = match over {
                    Over::Batch | Over::Samples(_) => false,
                    Over::Trailing(size) => (elements / samples).is_multiple_of(size),
                    Over::Instance | Over::Groups(_) => own.outer == 1 || own.same_index(),
                };
                let own = apart.then_some(own);
                for partition in [partition].into_iter().chain(own) {
                    let name = format!("{line} {over:?} {}", partition.parameters);
                    for element in 0..elements {
                        let in_sample = match over {
                            Over::Trailing(size) => element % size,
                            _ => shape.channel_of(element),
                        };
                        let sample = match partition.parameters_per_sample() {
                            true => shape.sample_of(element),
                            false => 0,
                        };
                        let parameter = sample * partition.sample_parameters as usize + in_sample;
                        let actual = partition.parameter_of(element as u64);
                        assert_eq!(actual as usize, parameter, "{name}");
                    }
                    for tile in tiles {
                        for (groups, max_bytes) in [(1, 1 << 20), (64, 1 << 20), (7, 256)] {
                            visit(&partition, tile, groups, max_bytes, &name);
                            checked += 1;
                        }
                    }
                }
            }
        }
        assert!(checked > 3000, "only {checked}");
    }

    fn visit(partition: &Partition, tile: Tile, groups: u32, max_bytes: u64, name: &str) {
        let elements = partition.elements as usize;
        let mut visits = vec![0; elements];
        let mut owners = vec![0; partition.vectors() as usize];
        // Elementwise passes take the planes of several samples one by one, and parameters that vary in a plane with x. Only
        // reductions divide a tensor into groups of fewer values than a vector has.
        let small = partition.outer > 1 && partition.outer_values < 4;
        let two_next = small || partition.order == Order::Planes && partition.outer > 1;
        let varies = partition.parameters_vary();
        for window in partition.windows(max_bytes, 16) {
            let geometry = partition.geometry(&window, tile, groups);
            for work in 0..geometry.groups() {
                for lane in 0..tile.workgroup {
                    let range = LaneRange::new(partition.order, geometry, work, lane);
                    for (j, place) in range
                        .columns()
                        .flat_map(|j| range.places(j).map(move |place| (j, place)))
                    {
                        for c in 0..4 {
                            let element = place.element as usize + c;
                            if element >= elements {
                                continue;
                            }
                            let statistics = partition.statistics_of(element as u64) as usize;
                            let parameter = partition.parameter_of(element as u64) as usize;
                            if place.inside[c] {
                                visits[element] += 1;
                                assert_eq!(range.statistics_index(j)[c], statistics, "{name}");
                                let index = match varies {
                                    true => place.varying_index[c],
                                    false => range.parameter_index(j)[c],
                                };
                                assert_eq!(index, parameter, "{name}");
                            } else if place.owned && place.next[c] && !two_next {
                                assert_eq!(range.next_statistics_index(j)[c], statistics, "{name}");
                                let index = match varies {
                                    true => place.varying_index[c],
                                    false => range.next_parameter_index(j)[c],
                                };
                                assert_eq!(index, parameter, "{name}");
                            }
                        }
                        if place.owned {
                            owners[place.element as usize / 4] += 1;
                        }
                    }
                }
            }
        }
        assert!(
            visits.iter().all(|&n| n == 1),
            "{name} {tile} {groups} {max_bytes}"
        );
        assert!(
            owners.iter().all(|&n| n == 1),
            "{name} {tile} {groups} {max_bytes}"
        );
    }
}
