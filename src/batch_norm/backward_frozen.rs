//! `backward_frozen.wgsl`: dx by running statistics, and the sums of one chunk of one unit.

use super::options::Destination;
use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};

pub fn dispatch(pass: &Pass<'_>, dx: Destination, params: Params) -> Dispatch<Params> {
    let (gradients, dy, dx) = pass.gradients(dx, &params.geometry);
    let bindings = vec![
        pass.read_window(Field::X, &params.geometry),
        dy,
        pass.read(Field::Statistics),
        pass.read(Field::Affine),
        pass.write(Field::Scratch),
        dx,
    ];
    let choices = [("monoid", "sums"), pass.slot(), gradients, pass.incoming()];
    pass.walking("backward_frozen", &choices, params, bindings)
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
        for lane in lanes {
            run.apply_backward(&lane, |run, _, channels| {
                (run.known_statistics(channels), run.known_means(channels))
            });
        }
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_frozen");
}
