//! `backward_finalize.wgsl`: each channel's partial sums become one, or become parameter gradients and the means that
//! dx needs.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::program::{Dispatch, Field};

/// What becomes of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Gradients,
    Sums,
}

pub fn dispatch(pass: &Pass<'_>, outcome: Outcome, params: Params) -> Dispatch<Params> {
    let (outcome, written) = match outcome {
        Outcome::Gradients => (("outcome", "outcome_gradients"), pass.write_grads()),
        Outcome::Sums => (("outcome", "outcome_sums"), pass.write(Field::Sums)),
    };
    let bindings = vec![pass.write(Field::Scratch), written];
    pass.combining(
        "backward_finalize",
        &[("monoid", "sums"), ("slot", "slot_channel"), outcome],
        params,
        bindings,
    )
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    use crate::shared::sums::Sums4;

    for (channel, total) in run.combine_parts::<Sums4>() {
        run.conclude_backward(channel, &total);
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("backward_finalize");
}
