//! `backward_normalize.wgsl`: dx by statistics and sums that are known.

use super::options::Destination;
use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};
use crate::shared::walk::Geometry;

/// Where the means that dx needs stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// At the head of scratch memory.
    Scratch,
    /// In sums with their count.
    Sums,
}

/// Where an epilogue adds, the incoming gradient has been left in `dresidual` by the pass before.
pub fn dispatch(
    pass: &Pass<'_>,
    means: Means,
    dx: Destination,
    geometry: Geometry,
) -> Dispatch<Params> {
    let (means, from) = match means {
        Means::Scratch => (("means", "means_scratch"), Field::Scratch),
        Means::Sums => (("means", "means_sums"), Field::Sums),
    };
    let (gradients, dy, dx) = pass.gradients(dx, &geometry);
    let bindings = vec![
        pass.read_window(Field::X, &geometry),
        dy,
        pass.read(Field::Statistics),
        pass.read(Field::Affine),
        pass.read(from),
        dx,
    ];
    let choices = [means, gradients, pass.incoming_again()];
    pass.walking(
        "backward_normalize",
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
        for lane in run.lanes(work) {
            run.apply_backward(&lane, |run, _, channels| {
                (run.known_statistics(channels), run.known_means(channels))
            });
        }
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_normalize");
}
