//! `backward_finalize.wgsl`: each channel's partial sums become parameter gradients and the means that
//! dx needs.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};

/// The rows of C floats that it leaves at the head of scratch memory.
pub const HEAD_ROWS: u32 = 2;

pub fn dispatch(pass: &Pass<'_>, params: Params) -> Dispatch<Params> {
    let bindings = vec![pass.write(Field::Scratch), pass.write_grads()];
    pass.dispatch("backward_finalize", &[("monoid", "sums")], params, bindings)
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    use crate::shared::sums::Sums4;

    for (channel, total) in run.combine_partials::<Sums4>() {
        run.settle_backward(channel, &total, 0);
        let (mean_dy, mean_x_hat_dy) = run.means_of(&total);
        run.memory.set(Field::Scratch, channel, mean_dy[0]);
        run.memory
            .set(Field::Scratch, run.channels() + channel, mean_x_hat_dy[0]);
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_finalize");
}
