//! `backward_stats.wgsl`: the sums of one chunk of one unit.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};

/// The vec4 fields of a partial result.
pub const FIELDS: u64 = 2;

pub fn dispatch(pass: &Pass<'_>, params: Params) -> Dispatch<Params> {
    let bindings = vec![
        pass.read_window(Field::X, &params.geometry),
        pass.read_window(Field::Dy, &params.geometry),
        pass.read(Field::Statistics),
        pass.write(Field::Scratch),
    ];
    pass.dispatch("backward_stats", Some("sums"), params, bindings)
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let sums = lanes
            .iter()
            .map(|lane| run.collect_backward(lane, &run.known_statistics(lane.channels())))
            .collect();
        run.store_partials(work, sums);
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_stats");
}
