//! InstanceNorm's cases for the chain of trust.

mod cases;
mod mutants;
mod partitions;

use self::cases::{cases, device_cases};
use super::program::NORM;
use crate::norm::proof::chain::{programs_agree_with_the_oracle, twins_agree_with_the_oracle};
use crate::norm::proof::sample::alone;
use crate::norm::proof::shaders;

#[test]
fn chained_twins_agree_with_the_oracle() {
    let checked = twins_agree_with_the_oracle(&cases(8));
    assert!(alone() || checked > 1500, "only {checked} cases");
}

#[test]
fn programs_on_the_device_agree_with_the_oracle_and_kernels_with_their_twins() {
    let checked = programs_agree_with_the_oracle(&device_cases(), 8);
    if alone() {
        return;
    }
    assert!(checked.programs > 400, "only {} programs", checked.programs);
    assert_eq!(checked.dispatches.len(), 9, "{checked:?}");
    for (kernel, count) in checked.dispatches {
        assert!(count > 15, "{kernel}: only {count} dispatches");
    }
}

#[test]
fn every_kernel_validates_and_translates_to_every_backend() {
    let variants = shaders::validate(&cases(12));
    assert!(alone() || variants > 50, "only {variants} variants");
}

#[test]
fn the_uniform_is_laid_out_as_the_host_writes_it() {
    shaders::check_layout(&cases(24)[..1], &["eps"]);
}

#[test]
fn every_file_declares_or_imports_what_it_uses() {
    shaders::check_names(NORM.sources);
}

#[test]
fn every_wgsl_file_is_listed() {
    shaders::check_listed("instance_norm", NORM.sources[1]);
}

#[test]
fn every_slot_has_one_interface() {
    shaders::check_slots(&NORM, &cases(24));
}
