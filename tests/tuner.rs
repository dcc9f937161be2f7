//! Choices by measurement: whichever it is, it must be possible, right, and remembered.

use std::fs;
use std::path::PathBuf;

use wgpu_norm::batch_norm::{BackwardOptions, BackwardPlan, Epilogue, TrainPlan, Tuner};
use wgpu_norm::{BatchNormConfig, Dtype, Error, Gpu, PlanError, Problem, Shape, TuneError};

/// A device; a machine without one fails the test.
fn gpu() -> Gpu {
    Gpu::open().unwrap_or_else(|error| panic!("the tests need a GPU: {error}"))
}

/// A file of this test's own, which is not there.
fn file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("wgpu-norm-{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn what_is_chosen_has_a_plan() {
    let gpu = &gpu();
    let mut tuner = Tuner::new(gpu);
    for epilogue in Epilogue::ALL {
        let config = BatchNormConfig::new(24).epilogue(epilogue);
        for problem in [
            Problem::new(Shape::nchw(4, 24, 8, 8), Dtype::F32),
            Problem::new(Shape::nhwc(4, 8, 8, 24), Dtype::F16),
            Problem::new(Shape::nchw(4, 24, 7, 7), Dtype::Bf16),
        ] {
            let tuning = tuner.train(problem, &config).unwrap();
            TrainPlan::with_tuning(gpu.kernels(), problem, &config, tuning).unwrap();
            for dx in BackwardOptions::default()
                .dx
                .into_iter()
                .map(Some)
                .chain([None])
            {
                let options = BackwardOptions {
                    dx,
                    ..BackwardOptions::default()
                };
                let tuning = tuner.backward(problem, &config, options).unwrap();
                let options = BackwardOptions { tuning, ..options };
                BackwardPlan::with_options(gpu.kernels(), problem, &config, options).unwrap();
            }
        }
    }
}

#[test]
fn the_file_is_believed_as_far_as_it_can_be() {
    let gpu = &gpu();
    let path = file("believed");
    let (shape, config) = (Shape::nchw(4, 32, 8, 8), BatchNormConfig::new(32));
    Tuner::with_file(gpu, &path)
        .unwrap()
        .train(shape, &config)
        .unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let (key, _) = text.trim_end().rsplit_once('\t').unwrap();

    // Whatever was measured, this is what the file says now.
    for (choice, believed) in [
        ("split plan", true),
        ("reread plan", true),
        ("reread 8x8x1", true),
        ("resident 7x7x1", false),
        ("nonsense", false),
        ("", false),
    ] {
        fs::write(
            &path,
            format!("another device\ttrain\tsplit plan\nrubbish\n{key}\t{choice}\n"),
        )
        .unwrap();
        let tuning = Tuner::with_file(gpu, &path)
            .unwrap()
            .train(shape, &config)
            .unwrap();
        TrainPlan::with_tuning(gpu.kernels(), shape, &config, tuning).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(
            text.contains(&format!("{key}\t{choice}\n")),
            believed,
            "{choice:?}: {text}"
        );
        assert!(
            text.contains("another device\ttrain\tsplit plan\n"),
            "{text}"
        );
        if believed {
            let strategy = tuning.strategy.unwrap().name();
            assert!(choice.starts_with(strategy), "{choice:?}: {strategy}");
        }
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn other_kernels_and_devices_are_measured_anew() {
    let gpu = &gpu();
    let path = file("anew");
    let (shape, config) = (Shape::nc(64, 16), BatchNormConfig::new(16));
    Tuner::with_file(gpu, &path)
        .unwrap()
        .train(shape, &config)
        .unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let old = text.replace(" kernels ", " kernels of old ");
    assert_ne!(old, text);
    fs::write(&path, &old).unwrap();
    Tuner::with_file(gpu, &path)
        .unwrap()
        .train(shape, &config)
        .unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains(old.trim_end()), "{text}");
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let gpu = &gpu();
    let folder = std::env::temp_dir();
    let error = Tuner::with_file(gpu, &folder).unwrap_err();
    assert!(
        matches!(error, Error::Tune(TuneError::File { .. })),
        "{error}"
    );
    assert!(
        error.to_string().contains(folder.to_str().unwrap()),
        "{error}"
    );
    let missing = folder.join("wgpu-norm-no-such-folder").join("file");
    let error = Tuner::with_file(gpu, missing)
        .unwrap()
        .train(Shape::nc(8, 8), &BatchNormConfig::new(8));
    assert!(
        matches!(error, Err(Error::Tune(TuneError::File { .. }))),
        "{error:?}"
    );
}

#[test]
fn a_problem_without_a_plan_has_no_choice() {
    let mut tuner = Tuner::new(&gpu());
    let error = tuner
        .train(Shape::nc(8, 8), &BatchNormConfig::new(4))
        .unwrap_err();
    assert!(
        matches!(error, Error::Plan(PlanError::Channels { .. })),
        "{error}"
    );
}
