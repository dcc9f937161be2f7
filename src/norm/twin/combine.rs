//! The twins of what stores and combines partial results.

use super::Run;
use super::block_reduce::block_reduce;
use super::moments::Moments4;
use super::partial::Partial;
use super::sums::Sums4;
use crate::norm::field::{MOMENTS, PARTS, RUNNING, SAVED, SCRATCH, SUMS};
use crate::norm::partition::Order;
use crate::norm::uniform::Settings;

impl<S: Settings> Run<'_, S> {
    /// The totals of a workgroup, by lane across and column.
    pub fn reduce<P: Partial>(&self, lanes: Vec<Vec<P>>) -> Vec<Vec<P>> {
        let width = self.params().geometry.width as usize;
        // exchange_folded.wgsl, exchange_whole.wgsl
        let lane_total = |partial: P| match self.order() {
            Order::Planes => partial.fold(),
            Order::Columns => partial,
        };
        let mut totals = vec![Vec::new(); width];
        for j in 0..self.params().geometry.columns as usize {
            let column = lanes.iter().map(|columns| lane_total(columns[j])).collect();
            for (totals, total) in totals.iter_mut().zip(block_reduce(column, width)) {
                totals.push(total);
            }
        }
        totals
    }

    // store_partial.wgsl
    pub fn store_partials<P: Partial>(&mut self, work: u32, lanes: Vec<Vec<P>>) {
        let chunk = self.params().reduction.first_chunk + work / self.params().geometry.units;
        for (range, totals) in self.lanes(work).iter().zip(self.reduce(lanes)) {
            for j in range.columns() {
                let fields = totals[j as usize].fields();
                let (first, components) = range.entries(j);
                for c in 0..components {
                    let at = self.entry_at::<P>(chunk, first + c as u32);
                    for (f, field) in fields.iter().enumerate() {
                        self.memory.set(SCRATCH, at + f, field[c]);
                    }
                }
            }
        }
    }

    fn entry_at<P: Partial>(&self, chunk: u32, entry: u32) -> usize {
        let reduction = &self.params().reduction;
        (reduction.head + chunk * reduction.chunk_stride + entry) as usize * P::FIELDS
    }

    /// Four entries at a time, as `combine_entries` takes them: `value` gives field `f` of entry `e`.
    fn combine_four<P: Partial>(
        &self,
        entries: u32,
        row: u32,
        rows: u32,
        value: impl Fn(u32, usize) -> f64,
    ) -> P {
        let entries: Vec<u32> = (0..entries).collect();
        let groups = entries.chunks(4).skip(row as usize).step_by(rows as usize);
        groups.fold(P::identity(), |total, group| {
            let mut fields = P::identity().fields();
            for (c, &entry) in group.iter().enumerate() {
                for (f, field) in fields.iter_mut().enumerate() {
                    field[c] = value(entry, f);
                }
            }
            total.combine(P::of_fields(&fields))
        })
    }

    // combine_chunks.wgsl, combine_groups.wgsl, combine_instances.wgsl, combine_parts.wgsl, combine_units.wgsl
    fn combine_entries<P: Partial>(&self, index: u32, row: u32, rows: u32) -> P {
        let (geometry, reduction) = (self.params().geometry, self.params().reduction);
        match self.choice("combine") {
            "combine_chunks" => {
                let (plane, periods) = (reduction.plane, reduction.periods);
                let channels = geometry.channels;
                let outer = index / channels * reduction.outer_stride;
                let all = reduction.chunks * periods * plane;
                self.combine_four(all, row, rows, |entry, f| {
                    let (chunk, in_chunk) = (entry / (periods * plane), entry % (periods * plane));
                    let period = in_chunk / plane;
                    let component =
                        (period * channels + index % channels) * plane + in_chunk % plane;
                    let at = self.entry_at::<P>(chunk, outer + component);
                    self.memory.get(SCRATCH, at + f)
                })
            }
            "combine_parts" => self.combine_four(reduction.parts, row, rows, |part, f| {
                let at = part * reduction.part_stride + f as u32 * geometry.statistics + index;
                self.memory.get(PARTS, at as usize)
            }),
            "combine_instances" => self.combine_four(reduction.parts, row, rows, |sample, f| {
                let at = (sample * geometry.statistics + index) as usize;
                match f {
                    0 => self.mean_of_instance(at) - self.mean_of_instance(index as usize),
                    _ => self
                        .memory
                        .get(MOMENTS, 2 * reduction.part_stride as usize + at),
                }
            }),
            "combine_units" => {
                let units = geometry.statistics / geometry.parameters;
                self.combine_four(units, row, rows, |unit, f| {
                    let at = (unit * geometry.parameters + index) as usize;
                    self.memory.get(SCRATCH, at * P::FIELDS + f)
                })
            }
            "combine_groups" => {
                let channels = geometry.statistics / geometry.saved_statistics;
                self.combine_four(channels, row, rows, |channel, f| {
                    let at = (index * channels + channel) as usize;
                    let parameter = at % geometry.parameters as usize;
                    let weight = self.weights([parameter; 4])[0];
                    self.memory.get(SCRATCH, at * P::FIELDS + f) * weight
                })
            }
            other => panic!("no combination: {other}"),
        }
    }

    fn mean_of_instance(&self, at: usize) -> f64 {
        let row = self.params().reduction.part_stride as usize;
        self.memory.get(MOMENTS, at) + self.memory.get(MOMENTS, row + at)
    }

    /// Each result's index with its total over all entries. `finalize.wgsl`
    pub fn combined<P: Partial>(&self) -> Vec<(usize, P)> {
        let geometry = self.params().geometry;
        let rows = self.constant("WORKGROUP") / geometry.width;
        let results = match self.choice("result") {
            "result_parameter_gradients" => geometry.parameters,
            "result_group_sums" => geometry.saved_statistics,
            _ => geometry.statistics,
        };
        (0..results)
            .map(|index| {
                let lanes = (0..rows).map(|row| self.combine_entries::<P>(index, row, rows));
                let folded = lanes.map(P::fold).collect();
                (index as usize, block_reduce::<P>(folded, 1)[0])
            })
            .collect()
    }

    // result_statistics.wgsl, result_statistics_or_running.wgsl, result_moments.wgsl
    pub fn write_moments(&mut self, index: usize, total: &Moments4) {
        match self.choice("result") {
            "result_statistics_or_running" if total.count[0] == 1.0 => {
                let rows = self.statistics();
                let [mean, var] = [0, 1].map(|row| self.memory.get(RUNNING, row * rows + index));
                let inv_std = self.inverse_std(var);
                self.write_rows(SAVED, index, &[mean, inv_std, 0.0]);
            }
            "result_statistics" | "result_statistics_or_running" => {
                if total.count[0] > 0.0 {
                    self.write_statistics(index, total, 0);
                }
            }
            "result_moments" => {
                let mean = total.pivot[0] + total.offset[0];
                self.write_rows(MOMENTS, index, &[mean, 0.0, total.m2[0], total.count[0]]);
            }
            other => panic!("no result: {other}"),
        }
    }

    // result_gradients.wgsl, result_group_sums.wgsl, result_parameter_gradients.wgsl, result_running.wgsl, result_sums.wgsl
    pub fn write_sums(&mut self, index: usize, total: &Sums4) {
        match self.choice("result") {
            "result_gradients" => {
                self.write_parameter_gradients(index, total, 0);
                self.memory.set(SCRATCH, 2 * index, total.g[0]);
                self.memory.set(SCRATCH, 2 * index + 1, total.x_hat_g[0]);
            }
            "result_parameter_gradients" => self.write_parameter_gradients(index, total, 0),
            "result_group_sums" => {
                let at = 2 * (self.statistics() + index);
                self.memory.set(SCRATCH, at, total.g[0]);
                self.memory.set(SCRATCH, at + 1, total.x_hat_g[0]);
            }
            "result_running" => {
                let reduction = self.params().reduction;
                let samples = f64::from(reduction.parts);
                let mean = self.mean_of_instance(index) + total.g[0] / samples;
                let row = reduction.part_stride as usize;
                let count = self.memory.get(MOMENTS, 3 * row + index);
                (self.move_running)(self, index, mean, total.x_hat_g[0] / samples, count);
            }
            "result_sums" => {
                let count = f64::from(self.params().reduction.count);
                self.write_rows(SUMS, index, &[total.x_hat_g[0], total.g[0], count]);
            }
            other => panic!("no result: {other}"),
        }
    }

    fn write_rows(&mut self, field: crate::gpu::program::Field, index: usize, rows: &[f64]) {
        let statistics = self.statistics();
        for (row, &value) in rows.iter().enumerate() {
            self.memory.set(field, row * statistics + index, value);
        }
    }

    // add_sums.wgsl
    pub fn add_sums(&mut self) {
        let reduction = self.params().reduction;
        for index in 0..3 * self.statistics() {
            let parts = 0..reduction.parts;
            let values = parts.map(|part| {
                let at = part * reduction.part_stride + index as u32;
                self.memory.get(PARTS, at as usize)
            });
            let total = values.sum();
            self.memory.set(SUMS, index, total);
        }
    }
}
