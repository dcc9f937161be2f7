//! The twins of what backward kernels import.

use super::forward::sigmoid;
use super::layout::LaneRange;
use super::partial::Partial;
use super::sums::Sums4;
use super::{Coefficients, Indices, Means, Run, Statistics, exact};
use crate::norm::field::{DADDED, DRESIDUAL, DX, DY, GRADS, OUTPUT, SCRATCH, SUMS};
use crate::norm::uniform::Settings;

/// `BackwardCoefficients` of `backward_coefficients.wgsl`.
#[derive(Clone, Copy, Debug)]
pub struct BackwardCoefficients {
    forward: Coefficients,
    statistics: Statistics,
    means: Means,
    weight: [f64; 4],
}

impl<S: Settings> Run<'_, S> {
    // backward_coefficients.wgsl
    pub fn stored_backward_coefficients(&self, indices: Indices) -> BackwardCoefficients {
        let statistics = self.stored_statistics(indices.statistics);
        BackwardCoefficients {
            forward: self.coefficients(indices.parameters, statistics),
            statistics,
            means: Means {
                g: [0.0; 4],
                x_hat_g: [0.0; 4],
            },
            weight: if self.is("WEIGHTED") {
                self.weights(indices.parameters)
            } else {
                [1.0; 4]
            },
        }
    }

    // accumulate_sums.wgsl
    pub fn accumulate_sums(&self, range: &LaneRange) -> Vec<Sums4> {
        self.for_each_column(range, |j| self.sums_of_column(range, j))
    }

    fn sums_of_column(&self, range: &LaneRange, j: u32) -> Sums4 {
        let own = self.own(range, j);
        let varies = self.is("PARAMETERS_VARY") || self.is("STATISTICS_VARY");
        // What varies may have no index for the whole range.
        let mut c = (!varies).then(|| self.stored_backward_coefficients(own));
        let mut total = Sums4::identity();
        for place in range.places(j).filter(|place| place.inside.contains(&true)) {
            if varies {
                c = Some(self.stored_backward_coefficients(self.at(own, &place)));
            }
            let Some(c) = &c else { continue };
            for component in (0..4).filter(|&component| place.inside[component]) {
                let element = place.element as usize + component;
                let gradient =
                    self.epilogue_backward(element, component, &c.forward) * c.weight[component];
                total.g[component] += gradient;
                let mut x_hat = self.standardize(&place, component, &c.statistics);
                if self.is("STATISTICS_VARY") {
                    x_hat = self.before_weight(x_hat);
                }
                total.x_hat_g[component] += x_hat * gradient;
            }
        }
        total
    }

    // incoming_*.wgsl, epilogue_backward_*.wgsl
    fn epilogue_backward(&self, element: usize, c: usize, forward: &Coefficients) -> f64 {
        let incoming = match self.choice("incoming") {
            "incoming_dy" => DY,
            "incoming_dresidual" => DRESIDUAL,
            other => panic!("no incoming gradient: {other}"),
        };
        let passes = match self.choice("epilogue_backward") {
            "epilogue_backward_identity" => true,
            "epilogue_backward_relu" => self.normalized(element, c, forward) > 0.0,
            "epilogue_backward_add_relu" => self.memory.get(OUTPUT, element) > 0.0,
            "epilogue_backward_silu" => {
                let value = self.normalized(element, c, forward);
                let share = sigmoid(value);
                let slope = share * (1.0 + value * (1.0 - share));
                return self.memory.get(incoming, element) * slope;
            }
            other => panic!("no epilogue: {other}"),
        };
        if passes {
            self.memory.get(incoming, element)
        } else {
            0.0
        }
    }

    /// Writes the residual's gradient, if there is one.
    pub fn write_dresidual(&mut self, range: &LaneRange) {
        if self.choice("epilogue_backward") != "epilogue_backward_add_relu" {
            return;
        }
        for j in range.columns() {
            // The output tells what passes, whatever the coefficients.
            let nothing = Coefficients {
                mean: [0.0; 4],
                scale: [0.0; 4],
                bias: [0.0; 4],
                weight: [1.0; 4],
            };
            for place in self.owned(range, j) {
                for (element, c) in self.elements(&place) {
                    let gradient = self.epilogue_backward(element, c, &nothing);
                    self.memory.set(DRESIDUAL, element, gradient);
                }
            }
        }
    }

    // backward_rows.wgsl
    pub fn clear_row_gradients(&mut self, work: u32) {
        let width = self.params().geometry.width;
        for chunk in work * width..(work + 1) * width {
            self.clear_chunk(chunk);
        }
    }

    fn clear_chunk(&mut self, chunk: u32) {
        let (geometry, reduction) = (self.params().geometry, self.params().reduction);
        let first = (reduction.head + chunk * reduction.chunk_stride) as usize;
        for at in 2 * first..2 * (first + geometry.sample_parameters as usize) {
            self.memory.set(SCRATCH, at, 0.0);
        }
    }

    pub fn add_row_gradients(&mut self, chunk: u32, range: &LaneRange) {
        let (geometry, reduction) = (self.params().geometry, self.params().reduction);
        let own = geometry.sample_parameters as usize;
        let first = (reduction.head + chunk * reduction.chunk_stride) as usize;
        for j in range.columns().filter(|&j| range.has_values(j)) {
            for place in range.places(j).filter(|place| place.owned) {
                let c = self.stored_backward_coefficients(self.at(self.own(range, j), &place));
                for (element, component) in self.elements(&place) {
                    let gradient = self.epilogue_backward(element, component, &c.forward);
                    let x_hat = self.standardize(&place, component, &c.statistics);
                    let x_hat = self.before_weight(x_hat);
                    let at = 2 * (first + place.varying_index[component] % own);
                    for (at, term) in [(at, gradient), (at + 1, x_hat * gradient)] {
                        let before = self.memory.get(SCRATCH, at);
                        self.memory.set(SCRATCH, at, before + term);
                    }
                }
            }
        }
    }

    // row_gradients_*.wgsl
    pub fn leave_row_gradients(&mut self, work: u32, lanes: &[LaneRange]) {
        if self.choice("row_gradients") == "row_gradients_none" {
            return;
        }
        let width = self.params().geometry.width;
        let with_rows = lanes.iter().enumerate();
        let with_rows = with_rows.filter(|(_, range)| range.has_values(0));
        let with_rows: Vec<_> = with_rows
            .map(|(lane, range)| (work * width + lane as u32 % width, range))
            .collect();
        for &(chunk, _) in &with_rows {
            self.clear_chunk(chunk);
        }
        for (chunk, range) in with_rows {
            self.add_row_gradients(chunk, range);
        }
    }

    // write_parameter_gradients.wgsl
    pub fn write_parameter_gradients(&mut self, index: usize, total: &Sums4, c: usize) {
        if !self.is("PARAMETER_GRADIENTS") {
            return;
        }
        let rows = [
            ("HAS_WEIGHT", index, total.x_hat_g[c]),
            ("HAS_BIAS", self.bias_row() + index, total.g[c]),
        ];
        for (present, at, value) in rows {
            if self.is(present) {
                let before = if self.is("ACCUMULATE") {
                    self.memory.get(GRADS, at)
                } else {
                    0.0
                };
                self.memory.set(GRADS, at, before + value);
            }
        }
    }

    // unit_gradients_*.wgsl
    pub fn write_unit_gradients(&mut self, index: usize, total: &Sums4, c: usize) {
        match self.choice("unit_gradients") {
            "unit_gradients_none" => {}
            "unit_gradients_final" => self.write_parameter_gradients(index, total, c),
            "unit_gradients_to_scratch" => {
                self.memory.set(SCRATCH, 2 * index, total.g[c]);
                self.memory.set(SCRATCH, 2 * index + 1, total.x_hat_g[c]);
            }
            other => panic!("no unit gradients: {other}"),
        }
    }

    // own_unit_gradients.wgsl
    pub fn means_of(&self, total: &Sums4) -> Means {
        let share = exact(self.params().reduction.inverse_count);
        Means {
            g: total.g.map(|v| v * share),
            x_hat_g: total.x_hat_g.map(|v| v * share),
        }
    }

    // means_from_scratch.wgsl, means_from_groups.wgsl, means_from_sums.wgsl, means_none.wgsl
    fn stored_means(&self, index: [usize; 4]) -> Means {
        let rows = self.statistics();
        let share = exact(self.params().reduction.inverse_count);
        let sums = |row: usize, i: usize| self.memory.get(SUMS, row * rows + i);
        let scratch = |row: usize, i: usize| self.memory.get(SCRATCH, 2 * i + row);
        match self.choice("means") {
            "means_none" => Means {
                g: [0.0; 4],
                x_hat_g: [0.0; 4],
            },
            "means_from_scratch" => Means {
                g: index.map(|i| scratch(0, i) * share),
                x_hat_g: index.map(|i| scratch(1, i) * share),
            },
            "means_from_groups" => {
                let group = |i: usize| rows + self.saved_index(i);
                Means {
                    g: index.map(|i| scratch(0, group(i)) * share),
                    x_hat_g: index.map(|i| scratch(1, group(i)) * share),
                }
            }
            "means_from_sums" => {
                let frozen = |i: usize| self.is("SINGLE_VALUE_FROZEN") && sums(2, i) == 1.0;
                let mean = |row: usize, i: usize| match frozen(i) {
                    true => 0.0,
                    false => sums(row, i) / sums(2, i),
                };
                Means {
                    g: index.map(|i| mean(1, i)),
                    x_hat_g: index.map(|i| mean(0, i)),
                }
            }
            other => panic!("no means: {other}"),
        }
    }

    // backward_normalize.wgsl
    pub fn stored_coefficients_with_means(&self, indices: Indices) -> BackwardCoefficients {
        let means = self.stored_means(indices.statistics);
        self.with_means(indices, means)
    }

    pub fn with_means(&self, indices: Indices, means: Means) -> BackwardCoefficients {
        BackwardCoefficients {
            means,
            ..self.stored_backward_coefficients(indices)
        }
    }

    // backward_apply.wgsl. `coefficients` gives those of four components, in the lane's column `j` or with the next
    // statistics.
    pub fn backward_apply(
        &mut self,
        range: &LaneRange,
        coefficients: impl Fn(&Self, u32, Indices) -> BackwardCoefficients,
    ) {
        let dx = match self.choice("dx") {
            "dx_out_of_place" => DX,
            "dx_in_place" => DY,
            other => panic!("no destination: {other}"),
        };
        for j in range.columns() {
            for (place, own, next) in
                self.each_vector(range, j, |run, indices| coefficients(run, j, indices))
            {
                for (element, c) in self.elements(&place) {
                    let own = if place.next[c] { &next } else { &own };
                    let dadded = match self.choice("dadded") {
                        "dadded_none" => 0.0,
                        "dadded_added" => self.memory.get(DADDED, element),
                        other => panic!("no gradient of the sum: {other}"),
                    };
                    let value = self.input_gradient(element, c, own) + dadded;
                    self.memory.set(dx, element, value);
                }
            }
        }
    }

    // backward_coefficients.wgsl
    fn input_gradient(&self, element: usize, c: usize, own: &BackwardCoefficients) -> f64 {
        let BackwardCoefficients {
            forward,
            statistics,
            means,
            weight,
        } = own;
        let gradient = self.epilogue_backward(element, c, forward);
        if self.frozen() {
            return gradient * forward.scale[c];
        }
        let x = self.x(element);
        let x_hat = (x - statistics.mean[c]) * statistics.inv_std[c];
        let mean = if self.is("CENTERED") { means.g[c] } else { 0.0 };
        let moved = gradient * weight[c] - mean - x_hat * means.x_hat_g[c];
        if self.is("WEIGHTED") {
            moved * statistics.inv_std[c]
        } else {
            moved * forward.scale[c]
        }
    }
}
