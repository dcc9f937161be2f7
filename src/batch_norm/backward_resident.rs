//! `backward_resident.wgsl`: the whole backward pass of one unit, kept in registers.

use super::backward_reread::bindings;
use super::options::Destination;
use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::Dispatch;
use crate::shared::walk::Geometry;

pub fn dispatch(pass: &Pass<'_>, dx: Destination, geometry: Geometry) -> Dispatch<Params> {
    let (gradients, bindings) = bindings(pass, dx, &geometry);
    let choices = [
        ("monoid", "sums"),
        pass.slot(),
        pass.held(&geometry),
        gradients,
        pass.incoming(),
    ];
    let params = Params {
        geometry,
        ..pass.params
    };
    pass.walking("backward_resident", &choices, params, bindings)
}

/// What is kept in registers makes no difference to the numbers.
#[cfg(test)]
pub use super::backward_reread::twin;

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_resident");
}
