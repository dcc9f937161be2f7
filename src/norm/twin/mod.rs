//! The twins of what kernels import: f64, but lane by lane in the shaders' own decomposition. Each function has the name of
//! the WGSL function that it repeats.

mod backward;
pub mod block_reduce;
mod combine;
mod element;
mod forward;
mod layout;
pub mod memory;
pub mod moments;
mod partial;
pub mod sums;

use self::layout::{LaneRange, Place};
use self::memory::Memory;
use self::partial::Partial;
use super::partition::Order;
use super::uniform::Params;
use crate::gpu::compose::Choice;
use crate::gpu::program::Dispatch;

/// The twin of a norm's own file in slot `running`: the index of a statistic, its mean, its squared deviations and their number.
pub type MoveRunning<S> = fn(&mut Run<'_, S>, usize, f64, f64, f64);

/// `Statistics` of `standardize.wgsl`. An f64 holds the whole mean, so that there is no `mean_low`.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    mean: [f64; 4],
    inv_std: [f64; 4],
}

/// `Coefficients` of `coefficients.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients {
    mean: [f64; 4],
    scale: [f64; 4],
    bias: [f64; 4],
    weight: [f64; 4],
}

/// `Means` of `backward_coefficients.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    g: [f64; 4],
    x_hat_g: [f64; 4],
}

/// Indices of statistics and of parameters of a vector's four components.
#[derive(Clone, Copy, Debug)]
pub struct Indices {
    pub statistics: [usize; 4],
    pub parameters: [usize; 4],
}

/// One dispatch of a program on memory.
pub struct Run<'a, S> {
    dispatch: &'a Dispatch<Params<S>>,
    pub memory: &'a mut Memory,
    move_running: MoveRunning<S>,
}

/// The reciprocal of the whole number that the f32 is the reciprocal of.
fn exact(inverse: f32) -> f64 {
    f64::from(inverse).recip().round().recip()
}

impl<'a, S> Run<'a, S> {
    pub fn new(
        dispatch: &'a Dispatch<Params<S>>,
        memory: &'a mut Memory,
        move_running: MoveRunning<S>,
    ) -> Self {
        Self {
            dispatch,
            memory,
            move_running,
        }
    }
}

impl<S: Copy> Run<'_, S> {
    pub fn params(&self) -> &Params<S> {
        &self.dispatch.params
    }

    pub fn groups(&self) -> u32 {
        self.dispatch.groups
    }

    /// Number of statistics.
    pub fn statistics(&self) -> usize {
        self.params().geometry.statistics as usize
    }

    /// The file that the kernel imports as `slot`.
    fn choice(&self, slot: &str) -> &'static str {
        let choices = &self.dispatch.kernel.choices;
        let found = choices.iter().find(|(other, _)| *other == slot);
        found.unwrap_or_else(|| panic!("no file for {slot}")).1
    }

    pub fn has_choice(&self, choice: Choice) -> bool {
        self.dispatch.kernel.choices.contains(&choice)
    }

    /// The value of a constant.
    pub fn constant(&self, name: &str) -> u32 {
        let constants = &self.dispatch.kernel.constants;
        let found = constants.iter().find(|(other, _)| *other == name);
        found.unwrap_or_else(|| panic!("no value for {name}")).1
    }

    pub fn is(&self, name: &str) -> bool {
        self.constant(name) != 0
    }

    fn order(&self) -> Order {
        match self.choice("layout") {
            "layout_planes" => Order::Planes,
            "layout_columns" => Order::Columns,
            other => panic!("no layout: {other}"),
        }
    }

    fn frozen(&self) -> bool {
        self.choice("stored_statistics") == "stored_running"
    }

    /// The ranges of a workgroup's lanes.
    pub fn lanes(&self, work: u32) -> Vec<LaneRange> {
        (0..self.constant("WORKGROUP"))
            .map(|lane| LaneRange::new(self.order(), self.params().geometry, work, lane))
            .collect()
    }

    fn own(&self, range: &LaneRange, j: u32) -> Indices {
        Indices {
            statistics: range.statistics_index(j),
            parameters: range.parameter_index(j),
        }
    }

    fn next(&self, range: &LaneRange, j: u32) -> Indices {
        Indices {
            statistics: range.next_statistics_index(j),
            parameters: range.next_parameter_index(j),
        }
    }

    /// A result for each of a lane's columns, the identity for a column beyond the row.
    fn for_each_column<P: Partial>(&self, range: &LaneRange, result: impl Fn(u32) -> P) -> Vec<P> {
        (0..self.params().geometry.columns)
            .map(|j| {
                if range.has_values(j) {
                    result(j)
                } else {
                    P::identity()
                }
            })
            .collect()
    }

    /// The indices of one vector's values: what varies along the range is the vector's own.
    fn at(&self, indices: Indices, place: &Place) -> Indices {
        if self.is("PARAMETERS_VARY") {
            return Indices {
                parameters: place.varying_index,
                ..indices
            };
        }
        if self.is("STATISTICS_VARY") {
            // Components beyond the tensor have none.
            let last = self.params().geometry.saved_statistics as usize - 1;
            return Indices {
                statistics: place.varying_index.map(|index| index.min(last)),
                ..indices
            };
        }
        indices
    }

    /// The vectors that a lane writes in a column.
    fn owned(&self, range: &LaneRange, j: u32) -> Vec<Place> {
        range.places(j).filter(|place| place.owned).collect()
    }

    /// The elements of a vector with their components.
    fn elements(&self, place: &Place) -> impl Iterator<Item = (usize, usize)> + use<S> {
        let elements = self.params().geometry.elements as usize;
        let first = place.element as usize;
        (0..4)
            .map(move |c| (first + c, c))
            .filter(move |&(element, _)| element < elements)
    }

    /// What a lane computes from indices, for its column `j` and for the values with the next statistics; or for each
    /// vector again, if that varies.
    fn each_vector<C: Clone>(
        &self,
        range: &LaneRange,
        j: u32,
        of: impl Fn(&Self, Indices) -> C,
    ) -> Vec<(Place, C, C)> {
        let (own, next) = (self.own(range, j), self.next(range, j));
        let places = self.owned(range, j).into_iter();
        if self.is("PARAMETERS_VARY") || self.is("STATISTICS_VARY") {
            return places
                .map(|place| {
                    let of = |indices| of(self, self.at(indices, &place));
                    (place, of(own), of(next))
                })
                .collect();
        }
        let (own, next) = (of(self, own), of(self, next));
        places
            .map(|place| (place, own.clone(), next.clone()))
            .collect()
    }

    /// The columns, components and statistics of the unit that a lane's workgroup owns.
    pub fn own_statistics(&self, range: &LaneRange) -> Vec<(usize, usize, usize)> {
        range
            .columns()
            .flat_map(|j| {
                let components = range.entries(j).1;
                let index = range.statistics_index(j);
                (0..components).map(move |c| (j as usize, c, index[c]))
            })
            .collect()
    }
}
