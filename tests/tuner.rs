//! Choices by measurement: whichever it is, it must be possible, right, and remembered.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::sample_norm::Tested;
use crate::common::{gpu, noise};
use wgpu_norm::batch_norm::{
    BackwardOptions, BackwardPlan, Epilogue, EvalOptions, EvalPlan, TrainOptions, TrainPlan, Tuner,
};
use wgpu_norm::group_norm::{self, LayerTuning, Tile, Tuning, Wanted};
use wgpu_norm::{
    BatchNormConfig, Dtype, Error, Gpu, GroupNormConfig, InstanceNormConfig, LayerNormConfig,
    PlanError, Problem, RmsNormConfig, SampleLine, SampleNorm, Shape, Tensor, TuneError,
};

/// A file of this test's own, which is not there.
fn file(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("wgpu-norm-{}-{name}", std::process::id()));
    let _ = fs::remove_file(&path);
    path
}

/// What the file begins with.
const HEADER: &str = "# wgpu-norm tuning\n";

/// The lines of the file that hold choices.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let choices = text
        .strip_prefix(HEADER)
        .unwrap_or_else(|| panic!("{text}"));
    choices.lines().map(str::to_owned).collect()
}

/// What the lines are about, without what was chosen.
fn keys(path: &Path) -> Vec<String> {
    let key = |line: &String| line.rsplit_once('\t').unwrap().0.to_owned();
    lines(path).iter().map(key).collect()
}

#[test]
fn what_is_chosen_has_a_plan() {
    let gpu = &gpu();
    let mut tuner = Tuner::new(gpu);
    for &epilogue in Epilogue::ALL {
        let config = BatchNormConfig::new(24).epilogue(epilogue);
        for problem in [
            Problem::new(Shape::nchw(4, 24, 8, 8), Dtype::F32),
            Problem::new(Shape::nhwc(4, 8, 8, 24), Dtype::F16),
            Problem::new(Shape::nchw(4, 24, 7, 7), Dtype::Bf16),
        ] {
            let tuning = tuner.train(problem, &config).unwrap();
            TrainPlan::with_options(
                gpu.kernels(),
                problem,
                &config,
                TrainOptions::default().tuning(tuning),
            )
            .unwrap();
            let options = EvalOptions::default();
            let tuning = tuner.eval(problem, &config, options).unwrap();
            let options = options.tuning(tuning);
            EvalPlan::with_options(gpu.kernels(), problem, &config, options).unwrap();
            let plain = BackwardOptions::default();
            for options in [plain, plain.dx(None), plain.frozen(true)] {
                let tuning = tuner.backward(problem, &config, options).unwrap();
                let options = options.tuning(tuning);
                BackwardPlan::with_options(gpu.kernels(), problem, &config, options).unwrap();
            }
        }
    }
}

/// What the file has for a pass of the layer is how the pass goes: one lane sums in another order than many, and
/// differs in the last bits.
#[test]
fn a_layer_goes_by_its_tuners_choices() {
    let gpu = &gpu();
    let path = file("layer");
    let shape = Shape::nchw(8, 32, 8, 8);
    let config = BatchNormConfig::new(32);
    let x = gpu.tensor(shape, &noise(5, 16_384)).unwrap();
    let dy = gpu.tensor(shape, &noise(6, 16_384)).unwrap();
    let tuned = |tuner: Option<&mut Tuner>| {
        let mut bn = config.build(gpu).unwrap();
        if let Some(tuner) = tuner {
            bn.tune(tuner, shape).unwrap();
        }
        let (y, saved) = bn.frozen(&x).unwrap();
        let frozen = bn.backward(saved, &dy).unwrap();
        let (_, saved) = bn.train(&x).unwrap();
        let gradients = bn.backward(saved, &dy).unwrap();
        [
            bn.state().unwrap().running_var.unwrap(),
            gradients.weight().unwrap().unwrap(),
            frozen.weight().unwrap().unwrap(),
            y.read().unwrap(),
        ]
    };
    let untuned = tuned(None);
    let close = |results: &[Vec<f32>]| {
        for (ours, theirs) in untuned.iter().flatten().zip(results.iter().flatten()) {
            assert!((ours - theirs).abs() <= 2e-5 * ours.abs().max(1.0));
        }
    };
    // Each pass leaves a line of its own, and the layer has no others.
    let mut tuner = Tuner::with_file(gpu, &path).unwrap();
    let plain = BackwardOptions::default();
    let frozen = plain.frozen(true);
    let keys = ["train", "eval", "backward", "frozen"].map(|pass| {
        let before = keys(&path);
        match pass {
            "train" => tuner.train(shape, &config),
            "eval" => tuner.eval(shape, &config, EvalOptions::default()),
            "backward" => tuner.backward(shape, &config, plain),
            _ => tuner.backward(shape, &config, frozen),
        }
        .unwrap();
        let new = keys(&path).into_iter().filter(|key| !before.contains(key));
        let [key] = <[String; 1]>::try_from(new.collect::<Vec<_>>()).unwrap();
        (pass, key)
    });
    let text = fs::read_to_string(&path).unwrap();
    close(&tuned(Some(&mut tuner)));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let with = |single: &str| {
        let lines = keys.iter().map(|(pass, key)| {
            let tile = if *pass == single { "1x1x1" } else { "64x8x1" };
            format!("{key}\tsplit {tile}\n")
        });
        fs::write(&path, HEADER.to_owned() + &lines.collect::<String>()).unwrap();
        let results = tuned(Some(&mut Tuner::with_file(gpu, &path).unwrap()));
        close(&results);
        results
    };
    let many = with("none");
    let changed = |single| {
        let results = with(single);
        [0, 1, 2, 3].map(|i| results[i] != many[i])
    };
    // Where statistics are given, y has the same bits in whatever order. The saved ones are backward's, too.
    assert_eq!(changed("eval"), [false; 4]);
    assert_eq!(changed("frozen"), [false, false, true, false]);
    assert_eq!(changed("backward"), [false, true, false, false]);
    assert_eq!(changed("train"), [true, true, false, false]);
    fs::remove_file(path).unwrap();
}

#[test]
fn a_tuner_of_another_device_is_refused() {
    let mut bn = BatchNormConfig::new(8).build(&gpu()).unwrap();
    let error = bn.tune(&mut Tuner::new(&gpu()), Shape::nc(8, 8));
    assert_eq!(error, Err(TuneError::WrongDevice.into()));
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
    let [key] = &keys(&path)[..] else {
        panic!("{:?}", lines(&path));
    };

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
            format!("{HEADER}another device\ttrain\tsplit plan\nrubbish\n{key}\t{choice}\n"),
        )
        .unwrap();
        let tuning = Tuner::with_file(gpu, &path)
            .unwrap()
            .train(shape, &config)
            .unwrap();
        TrainPlan::with_options(
            gpu.kernels(),
            shape,
            &config,
            TrainOptions::default().tuning(tuning),
        )
        .unwrap();
        // What is not believed is measured, and the later line counts.
        let lines = lines(&path);
        assert_eq!(lines.len(), if believed { 3 } else { 4 }, "{lines:?}");
        assert_eq!(lines[3..], [format!("{key}\t{tuning}")][..lines.len() - 3]);
        assert_eq!(lines[0], "another device\ttrain\tsplit plan");
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
    assert_eq!(lines(&path).len(), 2, "{text}");
    assert!(text.starts_with(&old), "{text}");
    fs::remove_file(path).unwrap();
}

/// What one writes, another keeps, whenever it does.
#[test]
fn tuners_share_a_file() {
    let gpu = &gpu();
    let path = file("shared");
    std::thread::scope(|scope| {
        for channels in 1..=8 {
            let mut tuner = Tuner::with_file(gpu, &path).unwrap();
            let config = BatchNormConfig::new(channels);
            scope.spawn(move || tuner.train(Shape::nc(64, channels), &config).unwrap());
        }
    });
    assert_eq!(lines(&path).len(), 8, "{:?}", lines(&path));
    fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let gpu = &gpu();
    let folder = std::env::temp_dir();
    let missing = folder.join("wgpu-norm-no-such-folder").join("file");
    let foreign = file("foreign");
    fs::write(&foreign, "a diary\n").unwrap();
    // Before anything is measured.
    for path in [&folder, &missing, &foreign] {
        let error = Tuner::with_file(gpu, path).unwrap_err();
        let named = error.to_string().contains(path.to_str().unwrap());
        assert!(
            named && matches!(error, Error::Tune(TuneError::File { .. })),
            "{error}"
        );
    }
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "a diary\n");
    fs::remove_file(foreign).unwrap();
}

/// A folder takes the file's place between two calls.
#[test]
fn a_file_that_fails_later_is_an_error_once() {
    let gpu = &gpu();
    let path = file("later");
    let shape = Shape::nc(64, 8);
    let mut bn = BatchNormConfig::new(8).build(gpu).unwrap();
    let mut tuner = Tuner::with_file(gpu, &path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = bn.tune(&mut tuner, shape).unwrap_err();
    assert!(
        matches!(error, Error::Tune(TuneError::File { .. })),
        "{error}"
    );
    bn.tune(&mut tuner, shape).unwrap();
    let measured = bn.tuning(shape);
    // The file takes all that was measured as soon as it can.
    fs::remove_dir(&path).unwrap();
    tuner
        .train(Shape::nc(64, 4), &BatchNormConfig::new(4))
        .unwrap();
    assert_eq!(lines(&path).len(), 5, "{:?}", lines(&path));
    let mut another = BatchNormConfig::new(8).build(gpu).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let mut tuner = Tuner::with_file(gpu, &path).unwrap();
    another.tune(&mut tuner, shape).unwrap();
    assert_eq!(another.tuning(shape), measured);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    fs::remove_file(path).unwrap();
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

/// Rows of 6 values, which leave no strategy but split.
const ROWS: Shape = Shape::nc(32, 6);
/// Planes of 9 values, too.
const PLANES: Shape = Shape::nchw(4, 2, 3, 3);

fn tensors<const COUNT: usize>(gpu: &Gpu, shape: Shape) -> [Tensor; COUNT] {
    let count = shape.elements().unwrap();
    std::array::from_fn(|seed| gpu.tensor(shape, &noise(seed as u64, count)).unwrap())
}

/// What a layer computes: y and dx, alone and in a pre-norm block.
fn results<C: SampleNorm>(norm: &group_norm::Layer<C>, shape: Shape) -> [Vec<f32>; 4] {
    let [x, residual, dy, dadded] = tensors(norm.gpu(), shape);
    let (y, saved) = norm.train(&x).unwrap();
    let gradients = norm.backward(saved, &dy).unwrap();
    let (added_y, _, saved) = norm.train_added((&x, &residual)).unwrap();
    let wanted = Wanted::default().dadded(&dadded);
    let added_gradients = norm.backward_with(saved, &dy, wanted).unwrap();
    [
        y.read().unwrap(),
        gradients.dx.read().unwrap(),
        added_y.read().unwrap(),
        added_gradients.dx.unwrap().read().unwrap(),
    ]
}

/// A layer's passes are measured once, whatever its eps, under their problem lines. Its results stay what they were, and what
/// the file says later is what it takes.
fn sample_choices_are_remembered<C: Tested>(shape: Shape) {
    let gpu = &gpu();
    let path = file(&format!("remembered-{}", C::WORD));
    let config = C::usual(shape);
    let mut norm = config.make(gpu).unwrap();
    let untuned = results(&norm, shape);

    let mut tuner = Tuner::with_file(gpu, &path).unwrap();
    norm.tune(&mut tuner, shape).unwrap();
    let tuned = norm.tuning(shape);
    let LayerTuning {
        forward, backward, ..
    } = tuned;
    let these = LayerTuning::default().forward(forward).backward(backward);
    assert_eq!(tuned, these);
    norm.tune_added(&mut tuner, shape).unwrap();
    let tuned = norm.tuning(shape);
    assert_eq!((tuned.forward, tuned.backward), (forward, backward));
    let results = results(&norm, shape);
    for (ours, theirs) in results.iter().flatten().zip(untuned.iter().flatten()) {
        assert!((ours - theirs).abs() <= 2e-5 * theirs.abs().max(1.0));
    }
    assert_eq!(norm.tuning(Shape::nc(1, 6)), LayerTuning::default());

    // Four problem lines, which begin with the norm's name, and one file for them and BatchNorm's.
    let keys_now = keys(&path);
    let problem_line = |key| str::rsplit_once(key, '\t').unwrap().1;
    let problem_lines: Vec<_> = keys_now.iter().map(|key| problem_line(key)).collect();
    let passes = ["forward", "backward", "forward prenorm", "backward prenorm"];
    let expected = passes.map(|pass| format!("{} {shape} f32 {pass}", C::WORD));
    assert_eq!(problem_lines, expected);
    let text = fs::read_to_string(&path).unwrap();
    let mut another = config.set_eps(0.25).make(gpu).unwrap();
    let mut tuner = Tuner::with_file(gpu, &path).unwrap();
    another.tune(&mut tuner, shape).unwrap();
    another.tune_added(&mut tuner, shape).unwrap();
    assert_eq!(another.tuning(shape), tuned);
    let line: SampleLine<C> = expected[3].parse().unwrap();
    assert_eq!(line.measured(&mut tuner).unwrap(), tuned.added_backward);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    // Another choice than any that is measured.
    let tile = |lanes| Tuning::default().tile(Some(Tile::new(lanes, lanes)));
    let said = LayerTuning::default()
        .forward(tile(1))
        .backward(tile(2))
        .added_forward(tile(16))
        .added_backward(tile(32));
    let choices = [
        said.forward,
        said.backward,
        said.added_forward,
        said.added_backward,
    ];
    let choices = keys_now
        .iter()
        .zip(choices)
        .map(|(key, choice)| format!("{key}\t{choice}\n"));
    fs::write(&path, HEADER.to_owned() + &choices.collect::<String>()).unwrap();
    let mut tuner = Tuner::with_file(gpu, &path).unwrap();
    another.tune(&mut tuner, shape).unwrap();
    another.tune_added(&mut tuner, shape).unwrap();
    assert_eq!(another.tuning(shape), said);
    fs::remove_file(path).unwrap();
}

#[test]
fn choices_for_group_norm_are_remembered() {
    sample_choices_are_remembered::<GroupNormConfig>(PLANES);
}

#[test]
fn choices_for_instance_norm_are_remembered() {
    sample_choices_are_remembered::<InstanceNormConfig>(PLANES);
}

#[test]
fn choices_for_layer_norm_are_remembered() {
    sample_choices_are_remembered::<LayerNormConfig>(ROWS);
}

#[test]
fn choices_for_rms_norm_are_remembered() {
    sample_choices_are_remembered::<RmsNormConfig>(ROWS);
}

/// Each pass of a layer has a tile of its own here that no plan takes, and the refusal says which it was.
#[test]
fn each_call_of_a_sample_norm_goes_by_the_tuning_of_its_pass() {
    let gpu = &gpu();
    let shape = Shape::nc(32, 6);
    let [x, residual, dy, dadded] = &tensors(gpu, shape);
    let tile = |workgroup| Tuning::default().tile(Some(Tile::new(workgroup, 1)));
    let tuning = LayerTuning::default()
        .forward(tile(3))
        .backward(tile(5))
        .added_forward(tile(6))
        .added_backward(tile(7));
    let mut norm = RmsNormConfig::new(6).build(gpu).unwrap();
    let (_, mut saved) = norm.train(x).unwrap();
    norm.set_tuning(shape, tuning);
    assert_eq!(norm.tuning(shape), tuning);
    let of_pass = |error: &Error| match error {
        Error::Plan(PlanError::Tile { workgroup, .. }) => *workgroup,
        error => panic!("{error}"),
    };
    assert_eq!(of_pass(&norm.train(x).unwrap_err()), 3);
    assert_eq!(of_pass(&norm.eval(x).unwrap_err()), 3);
    assert_eq!(of_pass(&norm.train_added((x, residual)).unwrap_err()), 6);
    assert_eq!(of_pass(&norm.eval_added((x, residual)).unwrap_err()), 6);
    let plain = Wanted::default();
    for (wanted, tile) in [(plain, 5), (plain.dx(None), 5), (plain.dadded(dadded), 7)] {
        let refused = norm.backward_with(saved, dy, wanted).unwrap_err();
        assert_eq!(of_pass(&refused.error), tile);
        saved = *refused.saved;
    }
    // Other tensors go by the plan's own choice.
    let half = Problem::new(shape, Dtype::F16);
    let x = gpu.tensor(half, &noise(1, 192)).unwrap();
    norm.eval(&x).unwrap();
}

#[test]
fn a_sample_norm_that_cannot_be_tuned_keeps_its_tuning() {
    let gpu = &gpu();
    let shape = Shape::nc(32, 6);
    let mut norm = RmsNormConfig::new(6)
        .epilogue(Epilogue::AddRelu)
        .build(gpu)
        .unwrap();
    let error = norm.tune(&mut Tuner::new(&crate::common::gpu()), shape);
    assert_eq!(error, Err(TuneError::WrongDevice.into()));
    let mut tuner = Tuner::new(gpu);
    for (error, field) in [
        (norm.tune_added(&mut tuner, shape), "prenorm"),
        (norm.tune(&mut tuner, Shape::nc(32, 7)), "normalized_size"),
    ] {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Plan(_)), "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
    assert_eq!(norm.tuning(shape), LayerTuning::default());
}
