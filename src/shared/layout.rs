//! The twins of `walk.wgsl`, `layout_planes.wgsl` and `layout_columns.wgsl`.

use super::walk::{Geometry, Order};

/// A lane's walk through the items of one dispatch.
#[derive(Clone, Copy, Debug)]
pub struct LaneWalk {
    order: Order,
    geometry: Geometry,
    pub unit: u32,
    /// The lane's place across.
    across: u32,
    item: u32,
    end: u32,
}

/// `Place` of `walk.wgsl`, with the element at which the vector begins.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub element: u64,
    pub inside: [bool; 4],
    pub beyond: [bool; 4],
    pub owned: bool,
}

impl LaneWalk {
    pub fn new(order: Order, geometry: Geometry, work: u32, lane: u32) -> Self {
        let chunk = work / geometry.units;
        let row = lane / geometry.width;
        let chunk_begin = geometry.item_begin + chunk * geometry.chunk;
        let tile_begin = chunk_begin + row / geometry.step * geometry.tile;
        Self {
            order,
            geometry,
            unit: work % geometry.units,
            across: lane % geometry.width,
            item: tile_begin + row % geometry.step,
            end: (tile_begin + geometry.tile)
                .min(chunk_begin + geometry.chunk)
                .min(geometry.item_end),
        }
    }

    /// The places that the lane visits in its column `j`, in order.
    pub fn places(&self, j: u32) -> impl Iterator<Item = Place> {
        let walk = *self;
        (walk.item..walk.end)
            .step_by(walk.geometry.step as usize)
            .map(move |item| walk.place(item, j))
    }

    fn place(&self, item: u32, j: u32) -> Place {
        let g = &self.geometry;
        let (vector, begin, end) = match self.order {
            Order::Planes => {
                let (sample, offset) = (u64::from(item / g.span), u64::from(item % g.span));
                let begin =
                    (sample * u64::from(g.channels) + u64::from(self.unit)) * u64::from(g.plane);
                (begin / 4 + offset, begin, begin + u64::from(g.plane))
            }
            Order::Columns => {
                let vector = u64::from(item) * u64::from(g.span) + u64::from(self.vector_column(j));
                (vector, 0, u64::from(g.elements))
            }
        };
        let bound = self.has_values(j)
            && (u64::from(g.vector_begin)..u64::from(g.vector_end)).contains(&vector);
        let element = 4 * vector;
        let components = std::array::from_fn(|c| element + c as u64);
        Place {
            element,
            inside: components.map(|e| bound && (begin..end).contains(&e)),
            beyond: components.map(|e| self.order == Order::Planes && e >= end),
            owned: bound && (begin..end).contains(&element),
        }
    }

    /// The lane's columns, as far as the row reaches.
    pub fn columns(&self) -> impl Iterator<Item = u32> {
        let walk = *self;
        (0..walk.geometry.columns).filter(move |&j| walk.has_values(j))
    }

    pub fn vector_column(&self, j: u32) -> u32 {
        (self.unit * self.geometry.columns + j) * self.geometry.width + self.across
    }

    pub fn has_values(&self, j: u32) -> bool {
        self.order == Order::Planes || self.vector_column(j) < self.geometry.span
    }

    /// The channels of a vector's four components.
    pub fn channels(&self, j: u32) -> [usize; 4] {
        let g = &self.geometry;
        std::array::from_fn(|c| match self.order {
            Order::Planes => self.unit as usize,
            Order::Columns => {
                ((4 * self.vector_column(j) + c as u32) / g.plane % g.channels) as usize
            }
        })
    }

    /// The channels of the components that are `beyond`.
    pub fn channels_beyond(&self, j: u32) -> [usize; 4] {
        match self.order {
            Order::Planes => [(self.unit + 1) as usize % self.geometry.channels as usize; 4],
            Order::Columns => self.channels(j),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::walk::{Tile, Walk};
    use super::*;

    /// Every value is inside exactly one place, of its own channel; every vector has one owner.
    #[test]
    fn walks_visit_every_value_once_and_own_every_vector_once() {
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
        ]
        .map(|(workgroup, lanes, columns)| Tile {
            workgroup,
            lanes,
            columns,
        });
        for line in shapes {
            let shape: crate::Shape = line.parse().unwrap();
            let walk = Walk::of(shape).unwrap();
            for tile in tiles {
                for (groups, max_bytes) in [(1, 1 << 20), (64, 1 << 20), (7, 256)] {
                    let elements = walk.elements as usize;
                    let mut visits = vec![0; elements];
                    let mut owners = vec![0; walk.vectors() as usize];
                    for window in walk.windows(max_bytes, 16) {
                        let geometry = walk.geometry(&window, tile, groups);
                        for work in 0..geometry.groups() {
                            for lane in 0..tile.workgroup {
                                let lane_walk = LaneWalk::new(walk.order, geometry, work, lane);
                                for (j, place) in lane_walk
                                    .columns()
                                    .flat_map(|j| lane_walk.places(j).map(move |place| (j, place)))
                                {
                                    let (own, beyond) =
                                        (lane_walk.channels(j), lane_walk.channels_beyond(j));
                                    for c in 0..4 {
                                        let element = place.element as usize + c;
                                        if place.inside[c] {
                                            visits[element] += 1;
                                            assert_eq!(own[c], shape.channel_of(element), "{line}");
                                        }
                                        if place.owned && element < elements {
                                            let channel =
                                                if place.beyond[c] { beyond[c] } else { own[c] };
                                            assert_eq!(
                                                channel,
                                                shape.channel_of(element),
                                                "{line}"
                                            );
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
                        "{line} {tile:?} {groups} {max_bytes}"
                    );
                    assert!(
                        owners.iter().all(|&n| n == 1),
                        "{line} {tile:?} {groups} {max_bytes}"
                    );
                }
            }
        }
    }
}
