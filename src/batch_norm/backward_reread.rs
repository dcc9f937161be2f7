//! `backward_reread.wgsl`: the whole backward pass of one unit.

use super::options::Destination;
use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};
use crate::shared::walk::Geometry;

pub fn dispatch(pass: &Pass<'_>, dx: Destination, geometry: Geometry) -> Dispatch<Params> {
    let (gradients, dy, dx) = pass.gradients(dx, &geometry);
    let bindings = vec![
        pass.read_window(Field::X, &geometry),
        dy,
        pass.read(Field::Statistics),
        pass.read(Field::Affine),
        pass.write_grads(),
        dx,
    ];
    let choices = [("monoid", "sums"), gradients, pass.incoming()];
    pass.dispatch(
        "backward_reread",
        &choices,
        Params {
            geometry,
            ..pass.params
        },
        bindings,
    )
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let sums = lanes
            .iter()
            .map(|lane| run.collect_backward(lane))
            .collect();
        let totals = run.reduce(sums);
        for (lane, total) in lanes.iter().zip(&totals) {
            for (component, channel) in run.settled_channels(lane) {
                run.settle_backward(channel, total, component);
            }
        }
        for (index, lane) in lanes.iter().enumerate() {
            let known = run.known_statistics(lane.channels());
            let own = (known, run.means_of(&totals[index % totals.len()]));
            run.apply_backward(lane, &own, &own);
        }
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_reread");
}
