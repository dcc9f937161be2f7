//! `backward_normalize.wgsl`: dx by statistics and sums that are known.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};
use crate::shared::walk::Geometry;

pub fn dispatch(pass: &Pass<'_>, geometry: Geometry) -> Dispatch<Params> {
    let bindings = vec![
        pass.read_window(Field::X, &geometry),
        pass.read_window(Field::Dy, &geometry),
        pass.read(Field::Statistics),
        pass.read(Field::Affine),
        pass.read(Field::Scratch),
        pass.write_window(Field::Dx, &geometry),
    ];
    let params = Params {
        geometry,
        ..pass.params
    };
    pass.dispatch("backward_normalize", None, params, bindings)
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    for work in 0..run.groups() {
        for lane in run.lanes(work) {
            let known = |channels| (run.known_statistics(channels), run.known_means(channels));
            let (own, beyond) = (known(lane.channels()), known(lane.channels_beyond()));
            run.apply_backward(&lane, &own, &beyond);
        }
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_normalize");
}
