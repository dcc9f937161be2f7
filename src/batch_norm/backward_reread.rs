//! `backward_reread.wgsl`: the whole backward pass of one unit.

use super::options::Destination;
use super::params::Params;
use super::plan::Pass;
use crate::gpu::compose::Choice;
use crate::gpu::program::{Binding, Dispatch, Field};
use crate::shared::walk::Geometry;

/// What a kernel binds that does the whole backward pass, and the file that `gradients` stands for.
pub fn bindings(pass: &Pass<'_>, dx: Destination, geometry: &Geometry) -> (Choice, Vec<Binding>) {
    let (gradients, dy, dx) = pass.gradients(dx, geometry);
    let bindings = vec![
        pass.read_window(Field::X, geometry),
        dy,
        pass.read(Field::Statistics),
        pass.read(Field::Affine),
        pass.write_grads(),
        dx,
    ];
    (gradients, bindings)
}

pub fn dispatch(pass: &Pass<'_>, dx: Destination, geometry: Geometry) -> Dispatch<Params> {
    let (gradients, bindings) = bindings(pass, dx, &geometry);
    let choices = [("monoid", "sums"), pass.slot(), gradients, pass.incoming()];
    pass.walking(
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
    use super::twin::Run;

    for work in 0..run.groups() {
        let lanes = run.lanes(work);
        let sums = lanes
            .iter()
            .map(|lane| run.collect_backward(lane))
            .collect();
        let totals = run.reduce(sums);
        for (lane, totals) in lanes.iter().zip(&totals) {
            for (j, component, channel) in run.settled_channels(lane) {
                run.settle_backward(channel, &totals[j], component);
            }
        }
        for (lane, totals) in lanes.iter().zip(totals.iter().cycle()) {
            let own = |run: &Run<'_>, j: u32, channels| {
                (
                    run.known_statistics(channels),
                    run.means_of(&totals[j as usize]),
                )
            };
            run.apply_backward(lane, own);
        }
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_reread");
}
