//! BatchNorm's cases for the chain of trust.

mod case;
mod cases;
mod mutants;

use std::thread;

use self::cases::{all_cases, cases, exact_cases, exact_cases_on_device};
use crate::gpu::{F16Conversion, Kernels, test_gpu};
use crate::norm::proof::Case;
use crate::norm::proof::chain::{
    have_the_same_bits, programs_agree_with_the_oracle, twins_agree_with_the_oracle,
};
use crate::norm::proof::shaders;

#[test]
fn chained_twins_agree_with_the_oracle() {
    let checked = twins_agree_with_the_oracle(&all_cases());
    assert!(cases::alone() || checked > 12_000, "only {checked} cases");
}

#[test]
fn programs_on_the_device_agree_with_the_oracle_and_kernels_with_their_twins() {
    let checked = programs_agree_with_the_oracle(&cases(), 12);
    if cases::alone() {
        return;
    }
    assert!(
        checked.programs > 4000,
        "only {} programs",
        checked.programs
    );
    assert_eq!(checked.dispatches.len(), 11, "{checked:?}");
    // Devices without conversions of their own run fewer cases.
    let left_out = cases::CONVERSIONS.len() - cases::served_conversions().len();
    for (kernel, count) in checked.dispatches {
        assert!(count + left_out > 50, "{kernel}: only {count} dispatches");
    }
}

/// Threads that want one kernel at a time compile it once.
#[test]
fn programs_of_several_threads_share_kernels() {
    let case: case::BatchCase = "n3c5h7w7 nchw f32 train split".parse().unwrap();
    let kernels = Kernels::new(test_gpu().device()).unwrap();
    let program = case
        .program(kernels.caps())
        .expect("it exists")
        .with_bytes();
    let pipelines = || kernels.compiled(&program).unwrap().into_iter();
    let of_threads: Vec<Vec<_>> = thread::scope(|scope| {
        let threads = [(); 4].map(|()| scope.spawn(|| pipelines().map(|k| k.pipeline).collect()));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    assert!(
        of_threads
            .iter()
            .all(|pipelines| *pipelines == of_threads[0])
    );
}

/// Inputs whose answer is exact allow no error at all.
#[test]
fn exact_answers_are_exact() {
    let twins = twins_agree_with_the_oracle(&exact_cases());
    let device = programs_agree_with_the_oracle(&exact_cases_on_device(), 1000).programs;
    assert!(
        cases::alone() || (twins > 450 && device > 450),
        "{twins} {device}"
    );
}

/// The device's own conversions of f16 change no bit.
#[test]
fn conversions_have_the_same_bits() {
    let served = cases::served_conversions();
    for own in &served {
        let mut integers = *own;
        integers.line.common.f16 = Some(F16Conversion::Integers);
        have_the_same_bits(own, &integers);
    }
    // Mesa's software Vulkan has all of them.
    let mesa = test_gpu().device().adapter_info().driver == "llvmpipe";
    assert!(
        served.len() == cases::CONVERSIONS.len() || !mesa,
        "only {}",
        served.len()
    );
}

#[test]
fn every_kernel_validates_and_translates_to_every_backend() {
    let variants = shaders::validate(&all_cases());
    assert!(cases::alone() || variants > 60, "only {variants} variants");
}

/// The uniform has the same fields at the same offsets on both sides.
#[test]
fn the_uniform_is_laid_out_as_the_host_writes_it() {
    use super::settings::MomentumSettings;
    shaders::check_layout(&all_cases()[..1], &["eps", "momentum"]);
    assert_eq!(std::mem::offset_of!(MomentumSettings, momentum), 4);
}

/// A file lists the names that it uses, by declaring or importing them.
#[test]
fn every_file_declares_or_imports_what_it_uses() {
    shaders::check_names(super::program::NORM.sources);
}

/// Each slot's files define the same functions, and plans bind no other files.
#[test]
fn every_slot_has_one_interface() {
    shaders::check_slots(&super::program::NORM, &all_cases());
}

#[test]
fn every_wgsl_file_is_listed() {
    shaders::check_listed("norm", crate::norm::sources::SOURCES);
    shaders::check_listed("f16", crate::norm::f16::CONVERT[0]);
    shaders::check_listed("batch_norm", super::program::NORM.sources[1]);
}

/// A program that is faster because it does less is not chosen.
#[test]
fn programs_that_leave_something_out_are_no_choice() {
    use crate::batch_norm::config::BatchNormConfig;
    use crate::batch_norm::line::{Line, Pass};
    use crate::norm::tuner::Trial;
    use crate::norm::tuning::{Strategy, Tuning};
    use crate::{Dtype, Problem, Shape};

    let gpu = test_gpu();
    for &dtype in Dtype::ALL {
        let problem = Problem::new(Shape::nhwc(16, 16, 16, 64), dtype);
        for pass in [Pass::Train, Pass::backward(false)] {
            let mut line = Line::new(problem, &BatchNormConfig::new(64), pass);
            line.common.tuning = Tuning::default().strategy(Some(Strategy::Split));
            let whole = line.program(gpu.kernels().caps()).unwrap();
            for index in 0..whole.dispatches.len() {
                let mut partial = whole.clone();
                partial.dispatches.remove(index);
                let trial = Trial::new(gpu, problem, &[whole.clone(), partial]).unwrap();
                assert_eq!(
                    trial.matching().unwrap(),
                    [0],
                    "{line} without dispatch {index}"
                );
                assert_eq!(trial.fastest().unwrap(), 0);
            }
        }
    }
}
