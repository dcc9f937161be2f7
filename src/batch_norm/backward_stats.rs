//! `backward_stats.wgsl`: the sums of one chunk of one unit.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};

/// The floats of a partial result in memory.
pub const FIELDS: u64 = 2;

pub fn dispatch(pass: &Pass<'_>, params: Params) -> Dispatch<Params> {
    let geometry = &params.geometry;
    let [output, dresidual] = pass.residual_of_backward(geometry);
    let bindings = vec![
        pass.read_window(Field::X, geometry),
        pass.read_window(Field::Dy, geometry),
        pass.read(Field::Statistics),
        pass.read(Field::Affine),
        output,
        dresidual,
        pass.write(Field::Scratch),
    ];
    let choices = [
        ("monoid", "sums"),
        pass.slot(),
        ("gradients", "gradients_read"),
        pass.incoming(),
    ];
    pass.walking("backward_stats", &choices, params, bindings)
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let sums = lanes
            .iter()
            .map(|lane| run.collect_backward(lane))
            .collect();
        run.store_partials(work, sums);
        lanes.iter().for_each(|lane| run.leave_dresidual(lane));
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_stats");
}
