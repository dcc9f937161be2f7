//! `stats.wgsl`: the moments of one chunk of one unit.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};

/// The floats of a partial result in memory.
pub const FIELDS: u64 = 4;

pub fn dispatch(pass: &Pass<'_>, params: Params) -> Dispatch<Params> {
    let bindings = vec![
        pass.read_window(Field::X, &params.geometry),
        pass.write(Field::Scratch),
    ];
    pass.walking(
        "stats",
        &[("monoid", "moments"), pass.slot()],
        params,
        bindings,
    )
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let moments = lanes.iter().map(|lane| run.collect(lane)).collect();
        run.store_partials(work, moments);
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("stats");
}
