//! Statistics of batches by themselves: moments, drift, updates without gradients, precise statistics and averages of states.

use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{
    AveragedStatistics, Epilogue, Preset, RunningVariance, SingleValue, State, StateAverage,
};
use wgpu_norm::reference::Moments;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Dtype, Error, PlanError, Problem, Shape, Tensor, TensorError};

const F32: Bound = Bound::new(2e-6, 2e-6);

/// The moments of each channel of values in the memory order of a shape.
fn moments(shape: Shape, values: &[f32]) -> Vec<Moments> {
    let of = |channel: usize| {
        let own = values.iter().enumerate();
        let own = own.filter(|(index, _)| shape.channel_of(*index) == channel);
        Moments::of(own.map(|(_, &value)| value.into()))
    };
    (0..shape.channels()).map(of).collect()
}

fn check(actual: &[Moments], expected: &[Moments]) {
    let columns: [fn(&Moments) -> f64; 3] = [|m| m.mean, |m| m.m2, |m| m.count];
    for column in columns {
        let actual: Vec<f32> = actual.iter().map(|m| column(m) as f32).collect();
        let expected: Vec<f64> = expected.iter().map(column).collect();
        within("moments", &actual, &expected, F32).unwrap();
    }
}

#[test]
fn the_moments_of_a_batch_are_those_of_its_channels() {
    let gpu = gpu();
    let bn = BatchNormConfig::new(3).build(&gpu).unwrap();
    for shape in [
        Shape::nchw(4, 3, 5, 5),
        Shape::nhwc(4, 5, 5, 3),
        Shape::nc(1, 3),
        Shape::nc(0, 3),
    ] {
        let values: Vec<_> = noise(1, shape.elements().unwrap());
        let x = gpu.tensor(shape, &values).unwrap();
        check(&bn.moments(&x).unwrap(), &moments(shape, &values));
    }
    let other = gpu.tensor(Shape::nc(2, 4), &noise(1, 8)).unwrap();
    let error = bn.moments(&other).unwrap_err();
    assert!(matches!(error, Error::Plan(PlanError::Channels { .. })));
}

#[test]
fn an_update_moves_the_statistics_as_training_does() {
    let gpu = gpu();
    let shape = Shape::nhwc(3, 4, 4, 6);
    for config in [
        BatchNormConfig::new(6),
        BatchNormConfig::new(6).momentum(None),
        Preset::Keras.config(6).epilogue(Epilogue::Relu),
    ] {
        let [mut trained, mut updated] = [config.build(&gpu).unwrap(), config.build(&gpu).unwrap()];
        for seed in 0..3 {
            let x = gpu.tensor(shape, &noise(seed, 288)).unwrap();
            trained.train(&x).map(drop).unwrap();
            updated.update_running_stats(&x).unwrap();
        }
        let [trained, updated] = [trained.state().unwrap(), updated.state().unwrap()];
        assert_eq!(trained.num_batches_tracked, updated.num_batches_tracked);
        for (updated, trained) in [
            (updated.running_mean, trained.running_mean),
            (updated.running_var, trained.running_var),
        ] {
            within("running", &updated.unwrap(), &wide(&trained.unwrap()), F32).unwrap();
        }
    }
    let mut untracked = BatchNormConfig::new(6)
        .track_running_stats(false)
        .build(&gpu)
        .unwrap();
    let x = gpu.tensor(shape, &noise(1, 288)).unwrap();
    let error = untracked.update_running_stats(&x).unwrap_err();
    assert_eq!(error, Error::Plan(PlanError::NoRunningStatistics));
    // A single value moves nothing, by the policy an error or not.
    let one = gpu.tensor(Shape::nc(1, 6), &noise(1, 6)).unwrap();
    for policy in [SingleValue::Error, SingleValue::Skip, SingleValue::Running] {
        let mut bn = BatchNormConfig::new(6)
            .single_value(policy)
            .build(&gpu)
            .unwrap();
        let before = bn.state().unwrap();
        let refused = bn.update_running_stats(&one).is_err();
        assert_eq!(refused, policy == SingleValue::Error);
        assert_eq!(bn.state().unwrap(), before);
    }
}

#[test]
fn drift_is_what_the_running_statistics_do_not_expect() {
    let gpu = gpu();
    let shape = Shape::nc(64, 3);
    let mut bn = BatchNormConfig::new(3).momentum(1.0).build(&gpu).unwrap();
    let x = noise(1, 192);
    let tensor = gpu.tensor(shape, &x).unwrap();
    bn.train(&tensor).map(drop).unwrap();
    let before = bn.state().unwrap();
    // The batch that the statistics are of.
    let none = bn.drift(&tensor).unwrap();
    within("mean", &none.mean, &[0.0; 3], F32).unwrap();
    within("var", &none.var, &[1.0; 3], F32).unwrap();
    // Channel 1 moves by two deviations, channel 2 has four times the variance.
    let var = wide(before.running_var.as_ref().unwrap());
    let mean = wide(before.running_mean.as_ref().unwrap());
    let shifted = x.iter().enumerate().map(|(index, &value)| match index % 3 {
        1 => value + 2.0 * (var[1] + 1e-5).sqrt() as f32,
        2 => mean[2] as f32 + 2.0 * (value - mean[2] as f32),
        _ => value,
    });
    let shifted = gpu.tensor(shape, &shifted.collect::<Vec<_>>()).unwrap();
    let drift = bn.drift(&shifted).unwrap();
    let loose = Bound::new(1e-4, 1e-4);
    within("mean", &drift.mean, &[0.0, 2.0, 0.0], loose).unwrap();
    within("var", &drift.var, &[1.0, 1.0, 4.0], loose).unwrap();
    let (channel, distance) = drift.worst().unwrap();
    assert_eq!(channel, 1);
    assert!((distance - 2.0).abs() < 1e-3);
    assert_eq!(bn.state().unwrap(), before, "nothing moves");

    let one = gpu.tensor(Shape::nc(1, 3), &x[..3]).unwrap();
    let error = bn.drift(&one).unwrap_err();
    assert!(matches!(error, Error::Plan(PlanError::TooFewValues { .. })));
    let mut spoiled = x.clone();
    spoiled[2] = f32::NAN;
    let spoiled = gpu.tensor(shape, &spoiled).unwrap();
    let (channel, distance) = bn.drift(&spoiled).unwrap().worst().unwrap();
    assert!(channel == 2 && distance.is_nan());
}

/// fvcore's test: batches of 2 to 64 rows give the variance of all rows at once. More of them than wait on the device.
#[test]
fn precise_statistics_are_those_of_all_batches_at_once() {
    let gpu = gpu();
    let config = BatchNormConfig::new(5);
    let sizes = [2usize, 2, 4, 8, 16, 32, 64, 1, 0];
    let sizes: Vec<usize> = sizes.into_iter().cycle().take(70).collect();
    // Means that differ from batch to batch, so that variances do not average to the whole one.
    let values = |index: usize, size: usize| -> Vec<f32> {
        let shift = (index % 7) as f32;
        noise(index as u64, 5 * size)
            .iter()
            .map(|v| v + shift)
            .collect()
    };
    let all: Vec<f32> = (0..70)
        .flat_map(|index| values(index, sizes[index]))
        .collect();
    let rows = all.len() / 5;
    let whole = moments(Shape::nc(rows, 5), &all);
    for variance in RunningVariance::ALL {
        let mut bn = config.running_variance(*variance).build(&gpu).unwrap();
        let mut precise = bn.precise_statistics().unwrap();
        for (index, &size) in sizes.iter().enumerate() {
            let x = gpu
                .tensor(Shape::nc(size, 5), &values(index, size))
                .unwrap();
            precise.add(&x).unwrap();
        }
        check(precise.moments().unwrap(), &whole);
        let state = precise.finish().unwrap();
        bn.load_state(&state).unwrap();
        let state = bn.state().unwrap();
        assert_eq!(state.num_batches_tracked, Some(63), "one in nine is empty");
        let mean: Vec<f64> = whole.iter().map(|m| m.mean).collect();
        within("mean", &state.running_mean.unwrap(), &mean, F32).unwrap();
        let divisor = match variance {
            RunningVariance::Biased => rows as f64,
            _ => rows as f64 - 1.0,
        };
        let var: Vec<f64> = whole.iter().map(|m| m.m2 / divisor).collect();
        within("var", &state.running_var.unwrap(), &var, F32).unwrap();
    }
}

#[test]
fn collecting_goes_forward_as_training_and_moves_nothing() {
    let gpu = gpu();
    let shape = Shape::nchw(3, 4, 3, 3);
    for (dtype, epilogue) in [
        (Dtype::F32, Epilogue::AddRelu),
        (Dtype::F16, Epilogue::Identity),
    ] {
        let problem = Problem::new(shape, dtype);
        let config = BatchNormConfig::new(4).epilogue(epilogue);
        let mut bn = config.build(&gpu).unwrap();
        bn.set_weight(&[0.5, 1.0, -2.0, 3.0]).unwrap();
        let [x, residual] = [1, 2].map(|seed| gpu.tensor(problem, &noise(seed, 108)).unwrap());
        let input = |x: &'_ Tensor| epilogue.adds().then_some(x.clone());
        let (residual, before) = (input(&residual), bn.state().unwrap());
        let mut precise = bn.precise_statistics().unwrap();
        let collected = match &residual {
            Some(residual) => precise.forward((&x, residual)),
            None => precise.forward(&x),
        };
        let collected = collected.unwrap().read().unwrap();
        drop(precise);
        assert_eq!(bn.state().unwrap(), before);
        let trained = match &residual {
            Some(residual) => bn.train((&x, residual)),
            None => bn.train(&x),
        };
        let trained = trained.unwrap().0.read().unwrap();
        let bound = if dtype == Dtype::F16 {
            Bound::new(1e-3, 1e-3)
        } else {
            F32
        };
        within("y", &collected, &wide(&trained), bound).unwrap();
    }
}

#[test]
fn precise_statistics_of_too_little_are_refused() {
    let gpu = gpu();
    let bn = BatchNormConfig::new(2).build(&gpu).unwrap();
    let state = bn.state().unwrap();
    assert_eq!(bn.precise_statistics().unwrap().finish().unwrap(), state);
    let mut precise = bn.precise_statistics().unwrap();
    let one = gpu.tensor(Shape::nc(1, 2), &[1.0, 2.0]).unwrap();
    precise.add(&one).unwrap();
    let error = precise.finish().unwrap_err();
    assert!(matches!(error, Error::Plan(PlanError::TooFewValues { .. })));
    let untracked = BatchNormConfig::new(2).track_running_stats(false);
    let untracked = untracked.build(&gpu).unwrap();
    let error = untracked.precise_statistics().unwrap_err();
    assert_eq!(error, Error::Plan(PlanError::NoRunningStatistics));
    // What is not finite is refused where it would be loaded.
    let mut bn = bn;
    let mut precise = bn.precise_statistics().unwrap();
    let spoiled = gpu
        .tensor(Shape::nc(2, 2), &[1.0, f32::NAN, 2.0, 3.0])
        .unwrap();
    precise.add(&spoiled).unwrap();
    let spoiled = precise.finish().unwrap();
    let error = bn.load_state(&spoiled).unwrap_err();
    assert!(matches!(
        error,
        Error::Tensor(TensorError::State {
            field: "running_mean",
            ..
        })
    ));
    assert_eq!(bn.state().unwrap(), state);
}

#[test]
fn averages_of_states_keep_the_newest_counter() {
    let state = |value: f32, batches: u64| {
        let mut state = State::default();
        state.weight = Some(vec![value]);
        state.running_mean = Some(vec![10.0 * value]);
        state.running_var = Some(vec![value * value]);
        state.num_batches_tracked = Some(batches);
        state
    };
    for statistics in [AveragedStatistics::Average, AveragedStatistics::Newest] {
        let mut average = StateAverage::new(0.75, &state(1.0, 3)).statistics(statistics);
        average.add(&state(5.0, 9)).unwrap();
        let averaged = average.state();
        assert_eq!(averaged.weight, Some(vec![2.0]));
        assert_eq!(averaged.num_batches_tracked, Some(9));
        let (mean, var) = match statistics {
            AveragedStatistics::Average => (20.0, 7.0),
            _ => (50.0, 25.0),
        };
        assert_eq!(averaged.running_mean, Some(vec![mean]));
        assert_eq!(averaged.running_var, Some(vec![var]));

        let mut other = state(1.0, 1);
        other.bias = Some(vec![0.0]);
        let error = average.add(&other).unwrap_err().to_string();
        assert!(error.starts_with("bias: is given"), "{error}");
        assert_eq!(average.state(), averaged);
    }
    // Steps of a share that f32 would round away add up.
    let mut average = StateAverage::new(0.999_9, &state(1.0, 0));
    for _ in 0..1000 {
        average.add(&state(1.000_001, 0)).unwrap();
    }
    let weight = average.state().weight.unwrap()[0];
    assert!(weight > 1.0, "{weight}");
    // No share at all, the old value or the new one: not even infinity times nothing.
    for (decay, kept) in [(f32::NAN, 1.0), (2.0, 1.0), (0.0, 2.0), (-1.0, 2.0)] {
        let mut first = state(1.0, 0);
        first.running_var = Some(vec![f32::INFINITY]);
        let mut average = StateAverage::new(decay, &first);
        average.add(&state(2.0, 0)).unwrap();
        let averaged = average.state();
        assert_eq!(averaged.weight, Some(vec![kept]), "{decay}");
        let var = if kept == 1.0 { f32::INFINITY } else { 4.0 };
        assert_eq!(averaged.running_var, Some(vec![var]), "{decay}");
    }
}
