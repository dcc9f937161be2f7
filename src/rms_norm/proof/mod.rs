//! RMSNorm's cases for the chain of trust.

mod cases;
mod mutants;

use self::cases::{cases, device_cases};
use super::program::NORM;
use crate::norm::proof::chain::{programs_agree_with_the_oracle, twins_agree_with_the_oracle};
use crate::norm::proof::sample::alone;
use crate::norm::proof::shaders;

#[test]
fn chained_twins_agree_with_the_oracle() {
    let checked = twins_agree_with_the_oracle(&cases(8));
    assert!(alone() || checked > 300, "only {checked} cases");
}

#[test]
fn programs_on_the_device_agree_with_the_oracle_and_kernels_with_their_twins() {
    let checked = programs_agree_with_the_oracle(&device_cases(), 8);
    if alone() {
        return;
    }
    assert!(checked.programs > 60, "only {} programs", checked.programs);
    for (kernel, count) in checked.dispatches {
        assert!(count > 3, "{kernel}: only {count} dispatches");
    }
}

#[test]
fn every_kernel_validates_and_translates_to_every_backend() {
    let variants = shaders::validate(&cases(12));
    assert!(alone() || variants > 30, "only {variants} variants");
}

#[test]
fn every_slot_has_one_interface() {
    shaders::check_slots(&NORM, &cases(24));
}
