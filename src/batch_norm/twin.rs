//! The twins of what kernels import: f64, but lane by lane in the shaders' own decomposition. Each function
//! has the name of the WGSL function that it repeats.

use std::collections::HashMap;

use super::params::{ACCUMULATE, CUMULATIVE, HAS_BIAS, HAS_WEIGHT, PARAMETERS, Params, TRACK};
use crate::gpu::program::{Access, Dispatch, Field, Program};
use crate::shared::block_reduce::{Partial, block_reduce};
use crate::shared::layout::{LaneWalk, Place};
use crate::shared::moments::Moments4;
use crate::shared::sums::Sums4;
use crate::shared::walk::Order;

/// The buffers of a program, value by value. The counters of `running` are numbers like the others.
#[derive(Clone, Debug, Default)]
pub struct Memory(HashMap<Field, Vec<f64>>);

impl Memory {
    pub fn insert(&mut self, field: Field, values: Vec<f64>) {
        self.0.insert(field, values);
    }

    pub fn values(&self, field: Field) -> &[f64] {
        self.0.get(&field).map_or(&[], Vec::as_slice)
    }

    pub fn get(&self, field: Field, index: usize) -> f64 {
        self.0[&field][index]
    }

    pub fn set(&mut self, field: Field, index: usize, value: f64) {
        self.0.get_mut(&field).expect("a field of the program")[index] = value;
    }

    /// What there is.
    pub fn fields(&self) -> Vec<Field> {
        self.0.keys().copied().collect()
    }
}

/// `Statistics` of `standardize.wgsl`; nothing is left out of the mean, so there is no residual.
#[derive(Clone, Copy, Debug)]
pub struct Statistics {
    mean: [f64; 4],
    inv_std: [f64; 4],
}

/// `Coefficients` of `apply.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients {
    mean: [f64; 4],
    scale: [f64; 4],
    bias: [f64; 4],
}

/// The means of dy and of x_hat * dy.
pub type Means = ([f64; 4], [f64; 4]);

/// One dispatch of a program on memory.
pub struct Run<'a> {
    dispatch: &'a Dispatch<Params>,
    pub memory: &'a mut Memory,
}

/// Runs one dispatch on memory.
pub fn run(dispatch: &Dispatch<Params>, memory: &mut Memory) {
    let twin = match dispatch.kernel.name {
        "stats" => super::stats::twin,
        "finalize" => super::finalize::twin,
        "normalize" => super::normalize::twin,
        "forward_reread" => super::forward_reread::twin,
        "forward_resident" => super::forward_resident::twin,
        "backward_frozen" => super::backward_frozen::twin,
        "backward_stats" => super::backward_stats::twin,
        "backward_finalize" => super::backward_finalize::twin,
        "backward_normalize" => super::backward_normalize::twin,
        "backward_reread" => super::backward_reread::twin,
        "backward_resident" => super::backward_resident::twin,
        other => panic!("{other} has no twin"),
    };
    twin(&mut Run { dispatch, memory });
}

/// Runs a program on memory.
pub fn run_all(program: &Program<Params>, memory: &mut Memory) {
    for dispatch in &program.dispatches {
        run(dispatch, memory);
    }
}

/// The reciprocal of the whole number that the f32 is the reciprocal of.
fn exact(inverse: f32) -> f64 {
    f64::from(inverse).recip().round().recip()
}

impl Run<'_> {
    fn params(&self) -> &Params {
        &self.dispatch.params
    }

    pub fn groups(&self) -> u32 {
        self.dispatch.groups
    }

    pub fn channels(&self) -> usize {
        self.params().geometry.channels as usize
    }

    /// The file that an import stands for.
    fn choice(&self, name: &str) -> &'static str {
        let choices = &self.dispatch.kernel.choices;
        choices
            .iter()
            .find(|(other, _)| *other == name)
            .expect("a choice")
            .1
    }

    fn order(&self) -> Order {
        match self.choice("layout") {
            "layout_planes" => Order::Planes,
            "layout_columns" => Order::Columns,
            other => panic!("no layout: {other}"),
        }
    }

    /// The buffer in a slot of the kernel.
    fn slot(&self, slot: usize) -> Option<Field> {
        self.dispatch.bindings[slot - 1].field
    }

    fn constant(&self, name: &str) -> u32 {
        let overrides = &self.dispatch.kernel.overrides;
        overrides
            .iter()
            .find(|(other, _)| *other == name)
            .expect("an override")
            .1
    }

    fn frozen(&self) -> bool {
        self.constant("FROZEN") != 0
    }

    /// The walks of a workgroup's lanes.
    pub fn lanes(&self, work: u32) -> Vec<LaneWalk> {
        (0..self.constant("WORKGROUP"))
            .map(|lane| LaneWalk::new(self.order(), self.params().geometry, work, lane))
            .collect()
    }

    // collect.wgsl. Adding value by value picks the same pivots as the kernel's blocks of four.
    pub fn collect(&self, lane: &LaneWalk) -> Vec<Moments4> {
        self.for_each_column(lane, |j| self.collect_column(lane, j))
    }

    /// A result for each of a lane's columns, the identity where the row does not reach.
    fn for_each_column<P: Partial>(&self, lane: &LaneWalk, result: impl Fn(u32) -> P) -> Vec<P> {
        (0..self.params().geometry.columns)
            .map(|j| {
                if lane.has_values(j) {
                    result(j)
                } else {
                    P::identity()
                }
            })
            .collect()
    }

    fn collect_column(&self, lane: &LaneWalk, j: u32) -> Moments4 {
        let mut total = Moments4::identity();
        for place in lane.places(j) {
            let mut value = Moments4::identity();
            for c in (0..4).filter(|&c| place.inside[c]) {
                value.pivot[c] = self.memory.get(Field::X, place.element as usize + c);
                value.count[c] = 1.0;
            }
            total = total.combine(value);
        }
        total
    }

    // backward_collect.wgsl
    pub fn collect_backward(&self, lane: &LaneWalk) -> Vec<Sums4> {
        self.for_each_column(lane, |j| self.collect_backward_column(lane, j))
    }

    fn collect_backward_column(&self, lane: &LaneWalk, j: u32) -> Sums4 {
        let statistics = self.known_statistics(lane.channels(j));
        let forward = self.with_affine(lane.channels(j), statistics);
        let mut total = Sums4::identity();
        for place in lane.places(j) {
            for c in (0..4).filter(|&c| place.inside[c]) {
                let gradient = self.incoming(place.element as usize + c, c, &forward);
                total.dy[c] += gradient;
                total.x_hat_dy[c] += self.standardize(&place, c, &statistics) * gradient;
            }
        }
        total
    }

    // incoming_*.wgsl
    fn incoming(&self, element: usize, c: usize, forward: &Coefficients) -> f64 {
        let dy = self.memory.get(self.slot(2).expect("dy"), element);
        let passes = match self.choice("incoming") {
            "incoming_identity" => true,
            "incoming_relu" => self.normalized(element, c, forward) > 0.0,
            "incoming_add_relu" => self.memory.get(Field::Output, element) > 0.0,
            other => panic!("no epilogue: {other}"),
        };
        if passes { dy } else { 0.0 }
    }

    /// Leaves the residual's gradient, if there is one.
    pub fn leave_dresidual(&mut self, lane: &LaneWalk) {
        if self.choice("incoming") != "incoming_add_relu" {
            return;
        }
        for j in lane.columns() {
            let channels = lane.channels(j);
            let forward = self.with_affine(channels, self.known_statistics(channels));
            for (element, c, _) in self.owned(lane, j) {
                let gradient = self.incoming(element, c, &forward);
                self.memory.set(Field::Dresidual, element, gradient);
            }
        }
    }

    fn standardize(&self, place: &Place, c: usize, statistics: &Statistics) -> f64 {
        let x = self.memory.get(Field::X, place.element as usize + c);
        (x - statistics.mean[c]) * statistics.inv_std[c]
    }

    /// The totals of a workgroup, by lane across and column.
    pub fn reduce<P: Partial>(&self, lanes: Vec<Vec<P>>) -> Vec<Vec<P>> {
        let width = self.params().geometry.width as usize;
        // slot_channel.wgsl, slot_columns.wgsl
        let slot = |partial: P| match self.order() {
            Order::Planes => partial.fold(),
            Order::Columns => partial,
        };
        let mut totals = vec![Vec::new(); width];
        for j in 0..self.params().geometry.columns as usize {
            let column = lanes.iter().map(|columns| slot(columns[j])).collect();
            for (totals, total) in totals.iter_mut().zip(block_reduce(column, width)) {
                totals.push(total);
            }
        }
        totals
    }

    // store_partial.wgsl
    pub fn store_partials<P: Partial>(&mut self, work: u32, lanes: Vec<Vec<P>>) {
        let params = *self.params();
        let geometry = params.geometry;
        let chunk = params.partial_chunk + work / geometry.units;
        for (lane, totals) in self.lanes(work).iter().zip(self.reduce(lanes)) {
            for j in lane.columns() {
                let fields = totals[j as usize].fields();
                let (first, components) = match self.order() {
                    Order::Planes => (lane.unit, 1),
                    Order::Columns => (4 * lane.vector_column(j), 4),
                };
                for c in 0..components {
                    let at = self.entry_at::<P>(chunk, first + c);
                    for (f, field) in fields.iter().enumerate() {
                        self.memory.set(Field::Scratch, at + f, field[c as usize]);
                    }
                }
            }
        }
    }

    // partials.wgsl
    fn entry_at<P: Partial>(&self, chunk: u32, component: u32) -> usize {
        let params = self.params();
        (params.partials + chunk * params.partial_components + component) as usize * P::FIELDS
    }

    // gather_partials.wgsl
    fn gather_partials<P: Partial>(&self, channel: u32, row: u32, rows: u32) -> P {
        let params = self.params();
        let (plane, periods) = (params.partial_plane, params.partial_periods);
        let entries: Vec<u32> = (0..params.partial_chunk * periods * plane).collect();
        let groups = entries.chunks(4).skip(row as usize).step_by(rows as usize);
        groups.fold(P::identity(), |total, group| {
            let mut fields = P::identity().fields();
            for (c, entry) in group.iter().enumerate() {
                let (chunk, in_chunk) = (entry / (periods * plane), entry % (periods * plane));
                let component = (in_chunk / plane * params.geometry.channels + channel) * plane
                    + in_chunk % plane;
                let at = self.entry_at::<P>(chunk, component);
                for (f, field) in fields.iter_mut().enumerate() {
                    field[c] = self.memory.get(Field::Scratch, at + f);
                }
            }
            total.combine(P::of_fields(&fields))
        })
    }

    // parts_moments.wgsl
    fn gather_moments<P: Partial>(&self, channel: u32, row: u32, rows: u32) -> P {
        let from = self.slot(1).expect("moments");
        let sets: Vec<u32> = (0..self.params().partial_chunk).collect();
        let groups = sets.chunks(4).skip(row as usize).step_by(rows as usize);
        groups.fold(P::identity(), |total, group| {
            let mut fields = P::identity().fields();
            for (c, set) in group.iter().enumerate() {
                for (f, field) in fields.iter_mut().enumerate() {
                    let row = *set as usize * P::FIELDS + f;
                    field[c] = self
                        .memory
                        .get(from, row * self.channels() + channel as usize);
                }
            }
            total.combine(P::of_fields(&fields))
        })
    }

    /// Each channel with its total over all parts.
    pub fn combine_parts<P: Partial>(&self) -> Vec<(usize, P)> {
        let rows = self.constant("WORKGROUP") / self.params().geometry.width;
        let of_moments = self
            .dispatch
            .kernel
            .choices
            .contains(&("parts", "parts_moments"));
        (0..self.channels())
            .map(|channel| {
                let lanes = (0..rows).map(|row| match of_moments {
                    true => self.gather_moments(channel as u32, row, rows),
                    false => self.gather_partials(channel as u32, row, rows),
                });
                let folded = lanes.map(P::fold).collect();
                (channel, block_reduce::<P>(folded, 1)[0])
            })
            .collect()
    }

    // outcome_statistics.wgsl, outcome_moments.wgsl
    pub fn conclude(&mut self, channel: usize, total: &Moments4) {
        match self.choice("outcome") {
            "outcome_statistics" if total.count[0] > 0.0 => self.settle(channel, total, 0),
            "outcome_statistics" => {}
            "outcome_moments" => {
                let rows = [
                    total.pivot[0] + total.offset[0],
                    0.0,
                    total.m2[0],
                    total.count[0],
                ];
                for (row, value) in rows.into_iter().enumerate() {
                    self.memory
                        .set(Field::Moments, row * self.channels() + channel, value);
                }
            }
            other => panic!("no outcome: {other}"),
        }
    }

    // outcome_gradients.wgsl, outcome_sums.wgsl
    pub fn conclude_backward(&mut self, channel: usize, total: &Sums4) {
        match self.choice("outcome") {
            "outcome_gradients" => {
                self.settle_backward(channel, total, 0);
                let (mean_dy, mean_x_hat_dy) = self.means_of(total);
                self.memory.set(Field::Scratch, 2 * channel, mean_dy[0]);
                self.memory
                    .set(Field::Scratch, 2 * channel + 1, mean_x_hat_dy[0]);
            }
            "outcome_sums" => {
                let count = f64::from(self.params().count);
                let rows = [total.dy[0], total.x_hat_dy[0], count];
                for (row, value) in rows.into_iter().enumerate() {
                    self.memory
                        .set(Field::Sums, row * self.channels() + channel, value);
                }
            }
            other => panic!("no outcome: {other}"),
        }
    }

    /// The columns, components and channels that a lane of a workgroup which owns its unit settles.
    pub fn settled_channels(&self, lane: &LaneWalk) -> Vec<(usize, usize, usize)> {
        if self.order() == Order::Planes {
            return vec![(0, 0, lane.unit as usize)];
        }
        let channels = |j| lane.channels(j).into_iter().enumerate();
        lane.columns()
            .flat_map(|j| channels(j).map(move |(c, channel)| (j as usize, c, channel)))
            .collect()
    }

    // settle.wgsl
    pub fn statistics_of(&self, total: &Moments4) -> Statistics {
        Statistics {
            mean: std::array::from_fn(|c| total.pivot[c] + total.offset[c]),
            inv_std: std::array::from_fn(|c| {
                self.inverse_std(total.m2[c] / total.count[c].max(1.0))
            }),
        }
    }

    pub fn settle(&mut self, channel: usize, total: &Moments4, c: usize) {
        let params = *self.params();
        let channels = self.channels();
        let statistics = self.statistics_of(total);
        let memory = &mut *self.memory;
        memory.set(Field::Saved, channel, statistics.mean[c]);
        memory.set(Field::Saved, channels + channel, statistics.inv_std[c]);
        memory.set(Field::Saved, 2 * channels + channel, 0.0);
        if !params.has(TRACK) {
            return;
        }
        let batches = memory.get(Field::Running, 2 * channels + channel) + 1.0;
        memory.set(Field::Running, 2 * channels + channel, batches);
        let momentum = if params.has(CUMULATIVE) {
            1.0 / batches
        } else {
            params.momentum.into()
        };
        let unbiased = total.m2[c] / (total.count[c] - 1.0).max(1.0);
        for (row, new) in [statistics.mean[c], unbiased].into_iter().enumerate() {
            let old = memory.get(Field::Running, row * channels + channel);
            memory.set(
                Field::Running,
                row * channels + channel,
                (1.0 - momentum) * old + momentum * new,
            );
        }
    }

    // standardize.wgsl
    fn inverse_std(&self, variance: f64) -> f64 {
        let sum = variance + f64::from(self.params().eps);
        if sum == 0.0 { 0.0 } else { sum.sqrt().recip() }
    }

    // known_statistics.wgsl
    pub fn known_statistics(&self, channels: [usize; 4]) -> Statistics {
        let field = self
            .dispatch
            .bindings
            .iter()
            .find_map(|binding| match binding.field {
                Some(field @ (Field::Saved | Field::Running | Field::Statistics))
                    if binding.access == Access::Read =>
                {
                    Some(field)
                }
                _ => None,
            });
        let field = field.expect("a binding of statistics");
        let row = |row, channel| self.memory.get(field, row * self.channels() + channel);
        if self.frozen() {
            return Statistics {
                mean: channels.map(|c| row(0, c)),
                inv_std: channels.map(|c| self.inverse_std(row(1, c))),
            };
        }
        Statistics {
            mean: channels.map(|c| row(0, c) + row(2, c)),
            inv_std: channels.map(|c| row(1, c)),
        }
    }

    // affine.wgsl
    fn weights(&self, channels: [usize; 4]) -> [f64; 4] {
        channels.map(|c| {
            if self.params().has(HAS_WEIGHT) {
                self.memory.get(Field::Affine, c)
            } else {
                1.0
            }
        })
    }

    fn bias_row(&self) -> usize {
        if self.params().has(HAS_WEIGHT) {
            self.channels()
        } else {
            0
        }
    }

    fn biases(&self, channels: [usize; 4]) -> [f64; 4] {
        let value = |c| self.memory.get(Field::Affine, self.bias_row() + c);
        channels.map(|c| {
            if self.params().has(HAS_BIAS) {
                value(c)
            } else {
                0.0
            }
        })
    }

    // apply.wgsl
    pub fn with_affine(&self, channels: [usize; 4], statistics: Statistics) -> Coefficients {
        let weights = self.weights(channels);
        Coefficients {
            mean: statistics.mean,
            scale: std::array::from_fn(|c| statistics.inv_std[c] * weights[c]),
            bias: self.biases(channels),
        }
    }

    fn normalized(&self, element: usize, c: usize, forward: &Coefficients) -> f64 {
        (self.memory.get(Field::X, element) - forward.mean[c]) * forward.scale[c] + forward.bias[c]
    }

    /// `known` gives the coefficients of four channels, those of the lane's column `j` or the ones after it.
    pub fn apply(
        &mut self,
        lane: &LaneWalk,
        known: impl Fn(&Self, u32, [usize; 4]) -> Coefficients,
    ) {
        let y = match self.choice("values") {
            "values_apart" => Field::Y,
            "values_in_place" => Field::X,
            other => panic!("no destination: {other}"),
        };
        for j in lane.columns() {
            let own = known(self, j, lane.channels(j));
            let beyond = known(self, j, lane.channels_beyond(j));
            for (element, c, is_beyond) in self.owned(lane, j) {
                let coefficients = if is_beyond { &beyond } else { &own };
                let normalized = self.normalized(element, c, coefficients);
                let value = match self.choice("epilogue") {
                    "epilogue_identity" => normalized,
                    "epilogue_relu" => normalized.max(0.0),
                    "epilogue_add_relu" => {
                        (normalized + self.memory.get(Field::Residual, element)).max(0.0)
                    }
                    other => panic!("no epilogue: {other}"),
                };
                self.memory.set(y, element, value);
            }
        }
    }

    /// The values that a lane writes in a column: element, component, and whether it is of the channel after
    /// its own.
    fn owned(&self, lane: &LaneWalk, j: u32) -> Vec<(usize, usize, bool)> {
        let elements = self.params().geometry.elements as usize;
        lane.places(j)
            .filter(|place| place.owned)
            .flat_map(|place| (0..4).map(move |c| (place.element as usize + c, c, place.beyond[c])))
            .filter(|&(element, ..)| element < elements)
            .collect()
    }

    // backward_settle.wgsl
    pub fn settle_backward(&mut self, channel: usize, total: &Sums4, c: usize) {
        if !self.params().has(PARAMETERS) {
            return;
        }
        let rows = [
            (HAS_WEIGHT, channel, total.x_hat_dy[c]),
            (HAS_BIAS, self.bias_row() + channel, total.dy[c]),
        ];
        for (flag, at, value) in rows {
            if self.params().has(flag) {
                let gathered = self.params().has(ACCUMULATE);
                let before = if gathered {
                    self.memory.get(Field::Grads, at)
                } else {
                    0.0
                };
                self.memory.set(Field::Grads, at, before + value);
            }
        }
    }

    pub fn means_of(&self, total: &Sums4) -> Means {
        let share = exact(self.params().inverse_count);
        (
            total.dy.map(|v| v * share),
            total.x_hat_dy.map(|v| v * share),
        )
    }

    // backward_normalize.wgsl
    pub fn known_means(&self, channels: [usize; 4]) -> Means {
        if self.frozen() {
            return ([0.0; 4], [0.0; 4]);
        }
        let row = |row: usize| {
            channels.map(|c| match self.choice("means") {
                "means_scratch" => self.memory.get(Field::Scratch, 2 * c + row),
                "means_sums" => {
                    let sums = |row| self.memory.get(Field::Sums, row * self.channels() + c);
                    sums(row) / sums(2)
                }
                other => panic!("no means: {other}"),
            })
        };
        (row(0), row(1))
    }

    // backward_apply.wgsl
    pub fn apply_backward(
        &mut self,
        lane: &LaneWalk,
        known: impl Fn(&Self, u32, [usize; 4]) -> (Statistics, Means),
    ) {
        // Where dx has no slot of its own, it goes over dy.
        let dx = self.slot(6).or(self.slot(2)).expect("dx");
        for j in lane.columns() {
            let of = |channels| {
                let (statistics, means) = known(self, j, channels);
                (self.with_affine(channels, statistics), statistics, means)
            };
            let (own, beyond) = (of(lane.channels(j)), of(lane.channels_beyond(j)));
            for (element, c, is_beyond) in self.owned(lane, j) {
                let (forward, statistics, (mean_dy, mean_x_hat_dy)) =
                    if is_beyond { &beyond } else { &own };
                let mut gradient = self.incoming(element, c, forward);
                if !self.frozen() {
                    let x = self.memory.get(Field::X, element);
                    let x_hat = (x - statistics.mean[c]) * statistics.inv_std[c];
                    gradient -= mean_dy[c] + x_hat * mean_x_hat_dy[c];
                }
                self.memory.set(dx, element, gradient * forward.scale[c]);
            }
        }
    }
}
