//! `finalize.wgsl`: the parts of each channel's moments become one, or become statistics.

use super::params::Params;
use super::plan::Pass;
use crate::gpu::compose::Choice;
use crate::gpu::program::{Dispatch, Field};

/// What is combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// The partial results of a pass over memory.
    Scratch,
    /// Sets of moments.
    Moments(Field),
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Statistics,
    Moments,
}

pub fn dispatch(
    pass: &Pass<'_>,
    parts: Parts,
    outcome: Outcome,
    params: Params,
) -> Dispatch<Params> {
    let (parts, source): (Choice, _) = match parts {
        Parts::Scratch => (("parts", "parts_scratch"), Field::Scratch),
        Parts::Moments(field) => (("parts", "parts_moments"), field),
    };
    let mut bindings = vec![pass.read(source)];
    let outcome = match outcome {
        Outcome::Statistics => {
            bindings.extend([pass.write_running(), pass.write(Field::Saved)]);
            ("outcome", "outcome_statistics")
        }
        Outcome::Moments => {
            bindings.push(pass.write(Field::Moments));
            ("outcome", "outcome_moments")
        }
    };
    pass.combining(
        "finalize",
        &[
            ("monoid", "moments"),
            ("slot", "slot_channel"),
            parts,
            outcome,
        ],
        params,
        bindings,
    )
}

#[cfg(test)]
pub fn twin(run: &mut super::twin::Run<'_>) {
    use crate::shared::moments::Moments4;

    for (channel, total) in run.combine_parts::<Moments4>() {
        run.conclude(channel, &total);
    }
}

#[test]
fn the_kernel_agrees_with_its_twin() {
    super::check::kernel("finalize");
}
