//! `forward_reread.wgsl`: the whole forward pass of one unit.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Binding, Dispatch, Field};
use crate::shared::walk::Geometry;

/// What a kernel binds that does the whole forward pass.
pub fn bindings(pass: &Pass<'_>, geometry: &Geometry) -> Vec<Binding> {
    vec![
        pass.read_window(Field::X, geometry),
        pass.read_residual(geometry),
        pass.read(Field::Affine),
        pass.write_window(Field::Y, geometry),
        pass.write_running(),
        pass.write(Field::Saved),
    ]
}

pub fn dispatch(pass: &Pass<'_>, geometry: Geometry) -> Dispatch<Params> {
    let bindings = bindings(pass, &geometry);
    let choices = [
        ("monoid", "moments"),
        pass.slot(),
        ("values", "values_apart"),
        pass.epilogue(),
    ];
    pass.walking(
        "forward_reread",
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
        let moments = lanes.iter().map(|lane| run.collect(lane)).collect();
        let totals = run.reduce(moments);
        for (lane, totals) in lanes.iter().zip(&totals) {
            for (j, component, channel) in run.settled_channels(lane) {
                run.settle(channel, &totals[j], component);
            }
        }
        for (lane, totals) in lanes.iter().zip(totals.iter().cycle()) {
            run.apply(lane, |run, j, channels| {
                run.with_affine(channels, run.statistics_of(&totals[j as usize]))
            });
        }
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("forward_reread");
}
