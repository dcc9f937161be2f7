//! `normalize.wgsl`: y by statistics that are known.

use super::options::Destination;
use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};
use crate::shared::walk::Geometry;

/// `statistics` is where they stand: saved by a batch, or running.
pub fn dispatch(
    pass: &Pass<'_>,
    statistics: Field,
    y: Destination,
    geometry: Geometry,
) -> Dispatch<Params> {
    let (values, x, y) = match y {
        Destination::Apart => (
            "values_apart",
            pass.read_window(Field::X, &geometry),
            pass.write_window(Field::Y, &geometry),
        ),
        Destination::InPlace => (
            "values_in_place",
            pass.write_window(Field::X, &geometry),
            pass.none_written(),
        ),
    };
    let bindings = vec![
        x,
        pass.read_residual(&geometry),
        pass.read(Field::Affine),
        y,
        pass.read(statistics),
    ];
    let choices = [("values", values), pass.epilogue()];
    pass.walking(
        "normalize",
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
            run.apply(&lane, |run, _, channels| {
                run.with_affine(channels, run.known_statistics(channels))
            });
        }
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("normalize");
}
