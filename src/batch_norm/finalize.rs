//! `finalize.wgsl`: each channel's partial moments become saved and running statistics.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};

pub fn dispatch(pass: &Pass<'_>, params: Params) -> Dispatch<Params> {
    let bindings = vec![
        pass.read(Field::Scratch),
        pass.write_running(),
        pass.write(Field::Saved),
    ];
    pass.dispatch("finalize", &[("monoid", "moments")], params, bindings)
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    use crate::shared::moments::Moments4;

    for (channel, total) in run.combine_partials::<Moments4>() {
        run.settle(channel, &total, 0);
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("finalize");
}
