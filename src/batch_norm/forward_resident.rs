//! `forward_resident.wgsl`: the whole forward pass of one unit, kept in registers.

use super::forward_reread::bindings;
use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::Dispatch;
use crate::shared::walk::Geometry;

pub fn dispatch(pass: &Pass<'_>, geometry: Geometry) -> Dispatch<Params> {
    let bindings = bindings(pass, &geometry);
    let choices = [
        ("monoid", "moments"),
        pass.slot(),
        pass.held(&geometry),
        ("values", "values_apart"),
        pass.epilogue(),
    ];
    let params = Params {
        geometry,
        ..pass.params
    };
    pass.walking("forward_resident", &choices, params, bindings)
}

/// What is kept in registers makes no difference to the numbers.
#[cfg(test)]
pub use super::forward_reread::twin;

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("forward_resident");
}
