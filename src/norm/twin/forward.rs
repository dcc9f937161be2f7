//! The twins of what forward kernels import.

use half::{bf16, f16};

use super::layout::{LaneRange, Place};
use super::moments::Moments4;
use super::partial::Partial;
use super::{Coefficients, Indices, Run, Statistics};
use crate::norm::field::{ADDED, AFFINE, RESIDUAL, RUNNING, SAVED, X, Y};
use crate::norm::uniform::Settings;

impl<S: Settings> Run<'_, S> {
    // x_*.wgsl
    pub fn x(&self, element: usize) -> f64 {
        match self.choice("x") {
            "x_alone" => self.memory.get(X, element),
            "x_added" => {
                self.stored(self.memory.get(X, element) + self.memory.get(RESIDUAL, element))
            }
            "x_added_before" => self.memory.get(ADDED, element),
            other => panic!("no input: {other}"),
        }
    }

    // element_*.wgsl
    fn stored(&self, value: f64) -> f64 {
        match self.choice("element") {
            "element_f16" => f16::from_f32(value as f32).into(),
            "element_bf16" => bf16::from_f32(value as f32).into(),
            _ => f64::from(value as f32),
        }
    }

    /// Writes the sum of input and residual, if there is one.
    pub fn write_added(&mut self, range: &LaneRange) {
        if self.choice("x") != "x_added" {
            return;
        }
        for j in range.columns() {
            for place in self.owned(range, j) {
                for (element, _) in self.elements(&place) {
                    let sum = self.x(element);
                    self.memory.set(ADDED, element, sum);
                }
            }
        }
    }

    // accumulate_moments.wgsl
    pub fn accumulate_moments(&self, range: &LaneRange) -> Vec<Moments4> {
        self.for_each_column(range, |j| self.moments_of_column(range, j))
    }

    fn moments_of_column(&self, range: &LaneRange, j: u32) -> Moments4 {
        const BLOCK: usize = 16;
        let mut total = Moments4::identity();
        let mut places = range.places(j).peekable();
        let mut seen = 0;
        while places.peek().is_some() {
            let size = seen.clamp(1, BLOCK);
            seen += size;
            let [mut sum, mut squares, mut count] = [[0.0; 4]; 3];
            for place in places.by_ref().take(size) {
                for c in (0..4).filter(|&c| place.inside[c]) {
                    let value = self.x(place.element as usize + c);
                    if total.count[c] + count[c] == 0.0 {
                        total.pivot[c] = value;
                    }
                    let difference = value - total.pivot[c];
                    sum[c] += difference;
                    squares[c] += difference * difference;
                    count[c] += 1.0;
                }
            }
            total = total.with_block(sum, squares, count);
        }
        total
    }

    // standardize.wgsl
    pub fn inverse_std(&self, variance: f64) -> f64 {
        let sum = variance + f64::from(self.params().settings.eps());
        // Beyond f32 is infinite.
        if sum == 0.0 || sum > f64::from(f32::MAX) {
            0.0
        } else {
            sum.sqrt().recip()
        }
    }

    pub fn standardize(&self, place: &Place, c: usize, statistics: &Statistics) -> f64 {
        let x = self.x(place.element as usize + c);
        (x - statistics.mean[c]) * statistics.inv_std[c]
    }

    // write_statistics.wgsl
    pub fn statistics_of(&self, total: &Moments4) -> Statistics {
        let mean = |c: usize| total.pivot[c] + total.offset[c];
        let variance = |c: usize| total.m2[c] / total.count[c].max(1.0);
        if !self.is("CENTERED") {
            return Statistics {
                mean: [0.0; 4],
                inv_std: std::array::from_fn(|c| self.inverse_std(variance(c) + mean(c) * mean(c))),
            };
        }
        Statistics {
            mean: std::array::from_fn(mean),
            inv_std: std::array::from_fn(|c| self.inverse_std(variance(c))),
        }
    }

    pub fn write_statistics(&mut self, index: usize, total: &Moments4, c: usize) {
        let rows = self.statistics();
        let statistics = self.statistics_of(total);
        self.memory.set(SAVED, index, statistics.mean[c]);
        self.memory.set(SAVED, rows + index, statistics.inv_std[c]);
        self.memory.set(SAVED, 2 * rows + index, 0.0);
        if self.choice("running") != "running_none" {
            let (mean, m2, count) = (statistics.mean[c], total.m2[c], total.count[c]);
            (self.move_running)(self, index, mean, m2, count);
        }
    }

    // stored_saved.wgsl, stored_running.wgsl
    pub fn stored_statistics(&self, index: [usize; 4]) -> Statistics {
        let rows = self.params().geometry.saved_statistics as usize;
        let row = |field, row, index| self.memory.get(field, row * rows + index);
        let index = index.map(|i| self.saved_index(i));
        if self.frozen() {
            return Statistics {
                mean: index.map(|i| row(RUNNING, 0, i)),
                inv_std: index.map(|i| self.inverse_std(row(RUNNING, 1, i))),
            };
        }
        Statistics {
            mean: index.map(|i| row(SAVED, 0, i) + row(SAVED, 2, i)),
            inv_std: index.map(|i| row(SAVED, 1, i)),
        }
    }

    pub fn saved_index(&self, index: usize) -> usize {
        if self.is("GROUPED") {
            let saved = self.params().geometry.saved_statistics as usize;
            index / (self.statistics() / saved)
        } else {
            index
        }
    }

    // parameter_rows.wgsl
    pub fn bias_row(&self) -> usize {
        if self.is("HAS_WEIGHT") {
            self.params().geometry.parameters as usize
        } else {
            0
        }
    }

    // affine.wgsl
    pub fn weights(&self, index: [usize; 4]) -> [f64; 4] {
        let present = self.is("HAS_WEIGHT");
        let offset = f64::from(self.constant("UNIT_OFFSET"));
        index.map(|i| {
            if present {
                self.memory.get(AFFINE, i) + offset
            } else {
                1.0
            }
        })
    }

    fn biases(&self, index: [usize; 4]) -> [f64; 4] {
        let (present, row) = (self.is("HAS_BIAS"), self.bias_row());
        index.map(|i| {
            if present {
                self.memory.get(AFFINE, row + i)
            } else {
                0.0
            }
        })
    }

    // coefficients.wgsl
    pub fn coefficients(&self, parameters: [usize; 4], statistics: Statistics) -> Coefficients {
        let weights = self.weights(parameters);
        let (scaled, after) = match self.is("ROUND_BEFORE_WEIGHT") {
            true => ([1.0; 4], weights),
            false => (weights, [1.0; 4]),
        };
        Coefficients {
            mean: statistics.mean,
            scale: std::array::from_fn(|c| statistics.inv_std[c] * scaled[c]),
            bias: self.biases(parameters),
            weight: after,
        }
    }

    pub fn before_weight(&self, x_hat: f64) -> f64 {
        match self.is("ROUND_BEFORE_WEIGHT") {
            true => self.stored(x_hat),
            false => x_hat,
        }
    }

    pub fn normalized(&self, element: usize, c: usize, forward: &Coefficients) -> f64 {
        let scaled = (self.x(element) - forward.mean[c]) * forward.scale[c];
        self.before_weight(scaled) * forward.weight[c] + forward.bias[c]
    }

    // normalize.wgsl
    pub fn stored_coefficients(&self, indices: Indices) -> Coefficients {
        self.coefficients(
            indices.parameters,
            self.stored_statistics(indices.statistics),
        )
    }

    // apply.wgsl. `coefficients` gives those of four components, in the lane's column `j` or with the next statistics.
    pub fn apply(
        &mut self,
        range: &LaneRange,
        coefficients: impl Fn(&Self, u32, Indices) -> Coefficients,
    ) {
        let y = match self.choice("y") {
            "y_out_of_place" => Y,
            "y_in_place" => X,
            other => panic!("no destination: {other}"),
        };
        for j in range.columns() {
            for (place, own, next) in
                self.each_vector(range, j, |run, indices| coefficients(run, j, indices))
            {
                for (element, c) in self.elements(&place) {
                    let coefficients = if place.next[c] { &next } else { &own };
                    let value = self.finish(element, self.normalized(element, c, coefficients));
                    self.memory.set(y, element, value);
                }
            }
        }
    }

    // epilogue_*.wgsl
    fn finish(&self, element: usize, normalized: f64) -> f64 {
        match self.choice("epilogue") {
            "epilogue_identity" => normalized,
            "epilogue_relu" => normalized.max(0.0),
            "epilogue_add_relu" => (normalized + self.memory.get(RESIDUAL, element)).max(0.0),
            "epilogue_silu" => normalized * sigmoid(normalized),
            other => panic!("no epilogue: {other}"),
        }
    }
}

// silu.wgsl
pub fn sigmoid(value: f64) -> f64 {
    (1.0 + (-value).exp()).recip()
}
