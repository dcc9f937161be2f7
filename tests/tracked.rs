//! InstanceNorm with running statistics: against torch's float64, made by `fixtures/tracked.py`, and what it refuses.

use std::collections::BTreeMap;

use serde::Deserialize;
use wgpu_norm::batch_norm::{
    BackwardError, Epilogue, Freeze, Gradients, InstancesBuffers, InstancesPlan, NonFinite, Saved,
    SingleValue, Wanted,
};
use wgpu_norm::instance_norm::{ForwardBuffers, ForwardPlan, Line};
use wgpu_norm::reference::batch_norm::Running;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::reference::{Moments, instance_norm};
use wgpu_norm::{
    BatchNormConfig, BindError, Dtype, Error, Gpu, InstanceNormConfig, PlanError, Problem, Shape,
    Tensor, TensorError, TrackedInstanceNorm,
};

use crate::common::fixtures::{Fixtures, draw};
use crate::common::{blank, download, gpu, noise, wide};

/// A case of `tracked.py`: one layer over three batches in training, and then the last of them in evaluation.
#[derive(Debug, Deserialize)]
struct Case {
    line: String,
    dtype: String,
    weight: bool,
    bias: bool,
    eps: f64,
    momentum: Option<f64>,
    relu: bool,
    mean: f64,
    apart: f64,
}

const BATCHES: u64 = 3;

/// A case with its inputs.
struct Drawn {
    case: Case,
    problem: Problem,
    weight: Vec<f64>,
    bias: Vec<f64>,
    dy: Vec<f64>,
    batches: Vec<Vec<f64>>,
    /// torch's results.
    expected: BTreeMap<&'static str, Vec<f64>>,
    /// torch's running means and variances after each batch.
    running: Vec<[Vec<f64>; 2]>,
}

const RESULTS: [&str; 8] = [
    "train.y",
    "train.dx",
    "train.dweight",
    "train.dbias",
    "eval.y",
    "eval.dx",
    "eval.dweight",
    "eval.dbias",
];

impl Drawn {
    fn new(index: usize, case: Case, fixtures: &Fixtures) -> Self {
        let shape: Shape = case.line.parse().expect("a problem line");
        let problem = Problem::new(shape, case.dtype.parse().expect("a storage type"));
        let (channels, count) = (shape.channels(), shape.elements().expect("a small shape"));
        let seed = 16 * index as u64;
        let single = |v: f64| f64::from(v as f32);
        let stored = |v: f64| match problem.dtype {
            Dtype::F16 => half::f16::from_f64(v).into(),
            _ => single(v),
        };
        let batch = |batch| -> Vec<f64> {
            let values = draw(seed + 4 + batch, count).into_iter().enumerate();
            let value = |(i, v)| stored(case.mean + case.apart * shape.sample_of(i) as f64 + v);
            values.map(value).collect()
        };
        let words = |name: &str| fixtures.values(&format!("{index}.{name}"));
        let running = |batch: u64| {
            ["running_mean", "running_var"]
                .map(|row| words(&format!("{row}.{batch}")).expect("a row"))
        };
        Self {
            problem,
            weight: draw(seed + 1, channels)
                .iter()
                .map(|v| single(1.5 + v))
                .collect(),
            bias: draw(seed + 2, channels),
            dy: draw(seed + 3, count).into_iter().map(stored).collect(),
            batches: (0..BATCHES).map(batch).collect(),
            expected: RESULTS
                .into_iter()
                .filter_map(|name| Some((name, words(name)?)))
                .collect(),
            running: (0..BATCHES).map(running).collect(),
            case,
        }
    }

    fn layer(&self, gpu: &Gpu) -> TrackedInstanceNorm {
        let case = &self.case;
        let config = BatchNormConfig::new(self.problem.shape.channels())
            .weight(case.weight)
            .bias(case.bias)
            .eps(case.eps as f32)
            .momentum(case.momentum.map(|momentum| momentum as f32))
            .epilogue(match case.relu {
                true => Epilogue::Relu,
                false => Epilogue::Identity,
            });
        let mut norm = TrackedInstanceNorm::new(config.build(gpu).unwrap()).unwrap();
        let batch_norm = norm.batch_norm_mut();
        if case.weight {
            batch_norm.set_weight(&narrow(&self.weight)).unwrap();
        }
        if case.bias {
            batch_norm.set_bias(&narrow(&self.bias)).unwrap();
        }
        norm
    }

    fn tensor(&self, gpu: &Gpu, values: &[f64]) -> Tensor {
        gpu.tensor(self.problem, &narrow(values)).unwrap()
    }

    fn check(&self, name: &str, actual: &[f32]) {
        self.within(name, actual, &self.expected[name]);
    }

    fn within(&self, name: &str, actual: &[f32], expected: &[f64]) {
        let largest = expected.iter().fold(1.0, |most: f64, v| most.max(v.abs()));
        let stored = name.ends_with(".y") || name.ends_with(".dx");
        let (relative, absolute) = match self.problem.dtype {
            Dtype::F16 if stored => (2f64.powi(-11), 2f64.powi(-25)),
            _ => (0.0, 0.0),
        };
        let bound = Bound::new(1e-5 + relative, 4e-6 * largest + absolute);
        within(
            &format!("{name} of {:?}", self.case),
            actual,
            expected,
            bound,
        )
        .unwrap();
    }

    fn check_gradients(&self, mode: &str, gradients: &Gradients) {
        self.check(&format!("{mode}.dx"), &gradients.dx.read().unwrap());
        let rows = [
            ("dweight", gradients.weight(), self.case.weight),
            ("dbias", gradients.bias(), self.case.bias),
        ];
        for (name, row, present) in rows {
            let row = row.unwrap();
            assert_eq!(row.is_some(), present);
            if let Some(row) = row {
                self.check(&format!("{mode}.{name}"), &row);
            }
        }
    }
}

fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

fn cases() -> Vec<Drawn> {
    let file = include_bytes!("fixtures/tracked.safetensors");
    let fixtures = Fixtures::new(file, include_bytes!("fixtures/tracked.py"));
    let cases: Vec<Case> = fixtures.json("cases");
    let cases = cases.into_iter().enumerate();
    let cases: Vec<_> = cases
        .map(|(index, case)| Drawn::new(index, case, &fixtures))
        .collect();
    fixtures.check_all_used();
    assert_eq!(cases.len(), 27);
    cases
}

#[test]
fn the_oracle_moves_running_statistics_as_torch() {
    for drawn in cases() {
        let channels = drawn.problem.shape.channels();
        let mut running = Running {
            mean: vec![0.0; channels],
            var: vec![1.0; channels],
            num_batches_tracked: 0,
        };
        for (x, expected) in drawn.batches.iter().zip(&drawn.running) {
            let averages = instance_norm::averages(drawn.problem.shape, x);
            let row = |value: fn(&Moments) -> f64| averages.iter().map(value).collect::<Vec<_>>();
            let unbiased = row(|m| m.m2 / (m.count - 1.0));
            running.average(&row(|m| m.mean), &unbiased, drawn.case.momentum);
            let bound = Bound::new(1e-12, 1e-13 * drawn.case.mean.abs().max(1.0));
            let what = format!("{:?}", drawn.case);
            within(&what, &running.mean, &expected[0], bound).unwrap();
            within(&what, &running.var, &expected[1], bound).unwrap();
        }
    }
}

#[test]
fn training_and_evaluation_are_those_of_torch() {
    let gpu = gpu();
    for drawn in cases() {
        let mut norm = drawn.layer(&gpu);
        let dy = drawn.tensor(&gpu, &drawn.dy);
        let mut last = None;
        for (batch, expected) in drawn.batches.iter().zip(&drawn.running) {
            last = Some(norm.train(&drawn.tensor(&gpu, batch)).unwrap());
            let state = norm.batch_norm().state().unwrap();
            let rows = [state.running_mean, state.running_var].map(Option::unwrap);
            drawn.within("running_mean", &rows[0], &expected[0]);
            drawn.within("running_var", &rows[1], &expected[1]);
        }
        let state = norm.batch_norm().state().unwrap();
        assert_eq!(state.num_batches_tracked, Some(BATCHES));
        let (y, saved) = last.expect("batches");
        drawn.check("train.y", &y.read().unwrap());
        drawn.check_gradients("train", &norm.backward(saved, &dy).unwrap());

        let x = drawn.tensor(&gpu, drawn.batches.last().expect("batches"));
        let (y, saved) = norm.frozen(&x).unwrap();
        let y = y.read().unwrap();
        assert_eq!(norm.eval(&x).unwrap().read().unwrap(), y);
        drawn.check("eval.y", &y);
        drawn.check_gradients("eval", &norm.backward(saved, &dy).unwrap());
        assert_eq!(norm.batch_norm().state().unwrap(), state, "nothing moves");
    }
}

fn tracked(gpu: &Gpu, config: BatchNormConfig) -> TrackedInstanceNorm {
    TrackedInstanceNorm::new(config.build(gpu).unwrap()).unwrap()
}

#[test]
fn training_normalizes_as_instance_norm_bit_for_bit() {
    let gpu = gpu();
    let shape = Shape::nhwc(3, 4, 5, 6);
    let [x, residual, dy] = [1, 2, 3].map(|seed| gpu.tensor(shape, &noise(seed, 360)).unwrap());
    let config = BatchNormConfig::new(6).epilogue(Epilogue::AddRelu).eps(0.1);
    let mut norm = tracked(&gpu, config);
    norm.batch_norm_mut().set_weight(&noise(4, 6)).unwrap();
    let plain = norm.batch_norm().to_instance_norm().unwrap();
    let (y, saved) = norm.train((&x, &residual)).unwrap();
    let (expected, other) = plain.train((&x, &residual)).unwrap();
    assert_eq!(y.read().unwrap(), expected.read().unwrap());
    assert_eq!(saved.held_bytes(), other.held_bytes());
    let gradients = norm.backward(saved, &dy).unwrap();
    let expected = plain.backward(other, &dy).unwrap();
    assert_eq!(gradients.dx.read().unwrap(), expected.dx.read().unwrap());
    assert_eq!(gradients.weight().unwrap(), expected.weight().unwrap());
    assert_eq!(gradients.bias().unwrap(), expected.bias().unwrap());
    let read = |gradients: &Gradients| gradients.dresidual.as_ref().unwrap().read().unwrap();
    assert_eq!(read(&gradients), read(&expected));
    // The residual is missing.
    let refused = norm.train(&x).unwrap_err();
    assert!(matches!(
        refused,
        Error::Tensor(TensorError::Residual { .. })
    ));
}

#[test]
fn one_pass_gives_what_an_addition_and_training_give() {
    let gpu = gpu();
    let shape = Shape::nhwc(3, 4, 5, 6);
    for dtype in [Dtype::F32, Dtype::F16] {
        let tensor = |values: &[f32]| gpu.tensor(Problem::new(shape, dtype), values).unwrap();
        let [x, residual, dy, dadded] = [1, 2, 3, 4].map(|seed| tensor(&noise(seed, 360)));
        // As their type stores it.
        let sum = |a: &Tensor, b: &Tensor| {
            let (left, right) = (a.read().unwrap(), b.read().unwrap());
            let sums: Vec<f32> = left.iter().zip(&right).map(|(a, b)| a + b).collect();
            tensor(&sums)
        };
        let config = BatchNormConfig::new(6).epilogue(Epilogue::Relu);
        let [mut norm, mut other] = [0, 1].map(|_| tracked(&gpu, config));
        for norm in [&mut norm, &mut other] {
            norm.batch_norm_mut().set_weight(&noise(5, 6)).unwrap();
        }
        let (y, added, saved) = norm.train_added((&x, &residual)).unwrap();
        let expected = sum(&x, &residual);
        let (expected_y, expected_saved) = other.train(&expected).unwrap();
        assert_eq!(added.read().unwrap(), expected.read().unwrap(), "{dtype}");
        assert_eq!(y.read().unwrap(), expected_y.read().unwrap(), "{dtype}");
        let moved = norm.batch_norm().state().unwrap();
        assert_eq!(moved, other.batch_norm().state().unwrap(), "{dtype}");
        assert_eq!(moved.num_batches_tracked, Some(1));

        let wanted = Wanted::default().dadded(&dadded);
        let gradients = norm.backward_with(saved, &dy, wanted).unwrap();
        let alone = other.backward(expected_saved, &dy).unwrap();
        assert_eq!(gradients.weight().unwrap(), alone.weight().unwrap());
        assert_eq!(gradients.bias().unwrap(), alone.bias().unwrap());
        let dx = gradients.dx.expect("it is wanted");
        // In f16 it is rounded once here, and twice there.
        if dtype == Dtype::F32 {
            let expected = sum(&alone.dx, &dadded).read().unwrap();
            assert_eq!(dx.read().unwrap(), expected);
        }
    }
}

#[test]
fn an_addition_that_cannot_be_is_refused_and_moves_nothing() {
    let gpu = gpu();
    let shape = Shape::ncl(3, 2, 5);
    let [x, residual] = [1, 2].map(|seed| gpu.tensor(shape, &noise(seed, 30)).unwrap());
    let mut norm = tracked(&gpu, BatchNormConfig::new(2));
    let state = norm.batch_norm().state().unwrap();
    let missing = norm.train_added(&x).unwrap_err();
    assert!(matches!(
        missing,
        Error::Tensor(TensorError::Residual { .. })
    ));
    let short = gpu.tensor(Shape::ncl(3, 2, 4), &noise(3, 24)).unwrap();
    let refused = norm.train_added((&x, &short)).unwrap_err().to_string();
    assert!(refused.starts_with("residual: "), "{refused}");
    norm.batch_norm_mut()
        .freeze(Freeze::default().statistics(true))
        .unwrap();
    let refused = norm.train_added((&x, &residual)).unwrap_err().to_string();
    assert!(refused.starts_with("statistics: are frozen"), "{refused}");
    norm.batch_norm_mut().freeze(Freeze::default()).unwrap();
    assert_eq!(norm.batch_norm().state().unwrap(), state);

    let mut adds = tracked(&gpu, BatchNormConfig::new(2).epilogue(Epilogue::AddRelu));
    let state = adds.batch_norm().state().unwrap();
    let refused = adds.train_added((&x, &residual)).unwrap_err().to_string();
    assert!(refused.starts_with("prenorm: "), "{refused}");
    assert_eq!(adds.batch_norm().state().unwrap(), state);

    // An empty batch has no sum.
    let empty = gpu.tensor(Shape::ncl(0, 2, 5), &[]).unwrap();
    let (y, added, saved) = norm.train_added((&empty, &empty)).unwrap();
    assert!(y.read().unwrap().is_empty() && added.read().unwrap().is_empty());
    let wanted = Wanted::default().dadded(&empty);
    let gradients = norm.backward_with(saved, &empty, wanted).unwrap();
    assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 2]));
    assert_eq!(
        norm.batch_norm().state().unwrap().num_batches_tracked,
        Some(0)
    );
}

#[test]
fn frozen_parts_stay_as_they_are() {
    let gpu = gpu();
    let shape = Shape::ncl(3, 2, 5);
    let [x, dy] = [1, 2].map(|seed| gpu.tensor(shape, &noise(seed, 30)).unwrap());
    let mut norm = tracked(&gpu, BatchNormConfig::new(2));
    norm.batch_norm_mut()
        .freeze(Freeze::default().parameters(true))
        .unwrap();
    let (_, saved) = norm.train(&x).unwrap();
    let gradients = norm.backward(saved, &dy).unwrap();
    assert!(gradients.buffer().is_none());
    norm.batch_norm_mut()
        .freeze(Freeze::default().statistics(true))
        .unwrap();
    let before = norm.batch_norm().state().unwrap();
    let (y, saved) = norm.train(&x).unwrap();
    assert_eq!(y.read().unwrap(), norm.eval(&x).unwrap().read().unwrap());
    let wanted = Wanted::default().dx(None);
    let gradients = norm.backward_with(saved, &dy, wanted).unwrap();
    assert!(gradients.dx.is_none() && gradients.buffer().is_some());
    assert_eq!(norm.batch_norm().state().unwrap(), before);
    // It is the BatchNorm that it was.
    let batch_norm = norm.into_batch_norm();
    assert_eq!(batch_norm.state().unwrap(), before);
}

#[test]
fn what_training_saves_is_for_this_layer_alone() {
    let gpu = gpu();
    let shape = Shape::ncl(3, 2, 5);
    let x = gpu.tensor(shape, &noise(1, 30)).unwrap();
    let mut norm = tracked(&gpu, BatchNormConfig::new(2));
    let other = tracked(&gpu, BatchNormConfig::new(2));
    let is_foreign = |refused: Result<Gradients, BackwardError>| -> Saved {
        let refused = refused.unwrap_err();
        assert_eq!(refused.error, Error::Tensor(TensorError::ForeignSaved));
        *refused.saved
    };
    let (_, saved) = norm.train(&x).unwrap();
    let saved = is_foreign(other.backward(saved, &x));
    // Nor is it for the BatchNorm, whose statistics are others.
    let saved = is_foreign(norm.batch_norm().backward(saved, &x));
    norm.backward(saved, &x).map(drop).unwrap();
    let (_, saved) = norm.frozen(&x).unwrap();
    let saved = is_foreign(other.backward(saved, &x));
    norm.batch_norm().backward(saved, &x).map(drop).unwrap();
}

#[test]
fn batches_without_values_or_a_variance_move_nothing() {
    let gpu = gpu();
    let mut norm = tracked(&gpu, BatchNormConfig::new(2).momentum(None));
    let x = gpu.tensor(Shape::ncl(2, 2, 3), &noise(1, 12)).unwrap();
    let (_, saved) = norm.train(&x).unwrap();
    norm.backward(saved, &x).map(drop).unwrap();
    let state = norm.batch_norm().state().unwrap();
    for shape in [Shape::ncl(0, 2, 3), Shape::ncl(3, 2, 0)] {
        let empty = gpu.tensor(shape, &[]).unwrap();
        let (y, saved) = norm.train(&empty).unwrap();
        assert!(y.read().unwrap().is_empty());
        let gradients = norm.backward(saved, &empty).unwrap();
        assert_eq!(gradients.weight().unwrap(), Some(vec![0.0; 2]));
    }
    let one = gpu.tensor(Shape::nc(4, 2), &noise(1, 8)).unwrap();
    let refused = norm.train(&one).unwrap_err();
    let few = |error| matches!(error, Error::Plan(PlanError::TooFewSpatialValues { .. }));
    assert!(few(refused));
    assert_eq!(norm.batch_norm().state().unwrap(), state);
    // Evaluation has its statistics already.
    let y = norm.eval(&one).unwrap().read().unwrap();
    assert!(y.iter().all(|y| y.is_finite()));
    let (_, saved) = norm.frozen(&one).unwrap();
    norm.backward(saved, &one).map(drop).unwrap();
}

#[test]
fn values_that_are_not_finite_are_the_batch_norms_policy() {
    let gpu = gpu();
    let mut values = noise(1, 24);
    values[7] = f32::NAN; // the second channel of the first sample
    let x = gpu.tensor(Shape::ncl(3, 2, 4), &values).unwrap();
    for policy in [NonFinite::Propagate, NonFinite::Skip] {
        let mut norm = tracked(&gpu, BatchNormConfig::new(2).non_finite(policy));
        norm.train(&x).map(drop).unwrap();
        let state = norm.batch_norm().state().unwrap();
        let mean = state.running_mean.unwrap();
        assert!(mean[0].is_finite() && mean[0] != 0.0);
        let skips = policy == NonFinite::Skip;
        assert_eq!(mean[1].is_nan(), !skips);
        assert_eq!(state.num_batches_skipped, skips.then(|| vec![0, 1]));
    }
}

#[test]
fn a_mean_far_from_zero_costs_no_digits() {
    let gpu = gpu();
    let (n, s) = (4096, 4);
    let values: Vec<f32> = noise(1, n * s).iter().map(|v| 1e4 + v).collect();
    let shape = Shape::ncl(n, 1, s);
    let x = gpu.tensor(shape, &values).unwrap();
    let mut norm = tracked(&gpu, BatchNormConfig::new(1).momentum(1.0));
    norm.train(&x).map(drop).unwrap();
    let state = norm.batch_norm().state().unwrap();
    let expected = instance_norm::averages(shape, &wide(&values))[0];
    // One unit in the last place of the mean, and about as much of the variance.
    let mean = f64::from(state.running_mean.unwrap()[0]);
    assert!((mean - expected.mean).abs() < 1e-3, "{mean} {expected:?}");
    let var = f64::from(state.running_var.unwrap()[0]);
    let unbiased = expected.m2 / (expected.count - 1.0);
    assert!((var / unbiased - 1.0).abs() < 1e-6, "{var} {unbiased}");
}

#[test]
fn what_cannot_be_is_refused() {
    let gpu = gpu();
    let config = BatchNormConfig::new(2);
    let made = |config: BatchNormConfig| TrackedInstanceNorm::new(config.build(&gpu).unwrap());
    let refused = made(config.track_running_stats(false)).unwrap_err();
    assert_eq!(refused, Error::Plan(PlanError::NoRunningStatistics));
    for policy in [SingleValue::Update, SingleValue::Skip, SingleValue::Running] {
        let refused = made(config.single_value(policy)).unwrap_err();
        assert!(refused.to_string().starts_with("single_value: "));
    }
    // An InstanceNorm that is told to keep running statistics says who does.
    let refused = InstanceNormConfig::new(2)
        .track_running_stats(true)
        .build(&gpu)
        .unwrap_err()
        .to_string();
    assert!(refused.starts_with("track_running_stats: "), "{refused}");
    assert!(refused.contains("TrackedInstanceNorm"), "{refused}");

    let mut norm = made(config).unwrap();
    let other = gpu.tensor(Shape::ncl(2, 3, 2), &noise(1, 12)).unwrap();
    let refused = norm.train(&other).unwrap_err();
    assert!(matches!(refused, Error::Plan(PlanError::Channels { .. })));
    let mut norm = made(config.eps(0.0)).unwrap();
    let x = gpu.tensor(Shape::ncl(2, 2, 3), &noise(1, 12)).unwrap();
    let refused = norm.train(&x).unwrap_err();
    assert!(matches!(refused, Error::Plan(PlanError::Eps { .. })));
    norm.eval(&x).map(drop).unwrap();
    let untracked = config.track_running_stats(false);
    let refused = InstancesPlan::new(gpu.kernels(), &untracked, 3).unwrap_err();
    assert_eq!(refused, PlanError::NoRunningStatistics);
    assert!(InstancesPlan::new(gpu.kernels(), &config, u32::MAX).is_err());
}

#[test]
fn a_plan_leaves_the_moments_of_each_instance() {
    let gpu = gpu();
    let shape = Shape::nhwc(3, 2, 4, 5);
    let values = noise(1, 120);
    let x = gpu.tensor(shape, &values).unwrap();
    for config in [
        InstanceNormConfig::new(5),
        InstanceNormConfig::new(5).track_running_stats(true),
    ] {
        let plan = ForwardPlan::new(gpu.kernels(), shape, &config).unwrap();
        let tracks = config.track_running_stats;
        let rows = config.moment_rows(3);
        assert_eq!(plan.moments_bytes(), if tracks { 4 * 60 } else { 0 });
        assert_eq!(
            rows.as_ref().map_or(0, |rows| rows.bytes()),
            plan.moments_bytes()
        );
        let [y, saved, moments, scratch] = [
            plan.activation_bytes(),
            plan.saved_bytes(),
            plan.moments_bytes(),
            plan.scratch_bytes(),
        ]
        .map(|bytes| blank(&gpu, bytes));
        let buffers = ForwardBuffers::new(x.buffer().slice(..), y.slice(..), saved.slice(..))
            .scratch(scratch.slice(..));
        let [without, with] =
            [buffers, buffers.moments(moments.slice(..))].map(|buffers| plan.bind(&buffers));
        if !tracks {
            without.map(drop).unwrap();
            let field = "moments";
            assert_eq!(with.unwrap_err(), BindError::Unexpected { field });
            continue;
        }
        assert!(matches!(without, Err(BindError::Missing { .. })));
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        with.unwrap().encode(&mut encoder);
        // They move what a BatchNorm has, in the same submission.
        let mut norm = tracked(&gpu, BatchNormConfig::new(5));
        let batch_norm = norm.batch_norm();
        let average = InstancesPlan::new(gpu.kernels(), batch_norm.config(), 3).unwrap();
        assert_eq!(average.moments_bytes(), plan.moments_bytes());
        let running = batch_norm.running_buffer().map(|running| running.slice(..));
        let buffers = InstancesBuffers::new(moments.slice(..));
        let refused = average.bind(&buffers).unwrap_err();
        assert!(matches!(refused, BindError::Missing { .. }));
        let average = average.bind(&buffers.running(running)).unwrap();
        average.encode(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
        let moved = norm.batch_norm().state().unwrap();
        norm.batch_norm_mut().reset_running_stats().unwrap();
        norm.train(&x).map(drop).unwrap();
        assert_eq!(norm.batch_norm().state().unwrap(), moved);
        let rows = download(&gpu, &moments, 60);
        let expected = instance_norm::moments(shape, &wide(&values));
        let row = |value: fn(&Moments) -> f64| expected.iter().map(value).collect::<Vec<_>>();
        let bound = Bound::new(1e-6, 1e-6);
        within("mean", &rows[..15], &row(|m| m.mean), bound).unwrap();
        assert_eq!(rows[15..30], [0.0; 15]);
        within("m2", &rows[30..45], &row(|m| m.m2), bound).unwrap();
        assert_eq!(rows[45..], [8.0; 15]);
    }
    let line: Line = "instance n3c5l4 ncl f32 forward tracked".parse().unwrap();
    assert!(line.config.track_running_stats);
    assert_eq!(line.to_string(), "instance n3c5l4 ncl f32 forward tracked");
}
