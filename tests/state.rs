//! What a layer keeps: parameters, running statistics, and the tuning of its passes.

use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{LayerTuning, State, Strategy, Tile, Tuning};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNorm, BatchNormConfig, Dtype, Error, Gpu, PlanError, Problem, Shape};

/// The state, each row read alone.
fn row_by_row(gpu: &Gpu, bn: &BatchNorm) -> State {
    let row = |buffer: Option<&wgpu::Buffer>, row: Option<std::ops::Range<u64>>| {
        let (buffer, row) = buffer.zip(row)?;
        Some(gpu.read_f32(buffer.slice(row)).unwrap())
    };
    let affine = bn.config().affine_rows();
    let running = bn.config().running_rows();
    let mut state = State::default();
    state.weight = row(bn.affine_buffer(), affine.weight);
    state.bias = row(bn.affine_buffer(), affine.bias);
    let of = |pick: fn(wgpu_norm::batch_norm::RunningRows) -> std::ops::Range<u64>| {
        row(bn.running_buffer(), running.clone().map(pick))
    };
    state.running_mean = of(|rows| rows.mean);
    state.running_var = of(|rows| rows.var);
    let counters = of(|rows| rows.num_batches_tracked);
    state.num_batches_tracked = counters.map(|counters| {
        let first = counters[0].to_bits();
        assert!(counters.iter().all(|counter| counter.to_bits() == first));
        first.into()
    });
    state
}

#[test]
fn the_state_is_what_its_rows_hold() {
    let gpu = gpu();
    let config = BatchNormConfig::new(5);
    for config in [
        config,
        config.weight(false),
        config.bias(false).momentum(None),
        config.affine(false),
        config.track_running_stats(false),
        config.affine(false).track_running_stats(false),
    ] {
        let mut bn = config.build(&gpu).unwrap();
        assert_eq!(bn.gpu().device(), gpu.device());
        for seed in 0..3 {
            let x = gpu.tensor(Shape::nc(9, 5), &noise(seed, 45)).unwrap();
            bn.train(&x).map(drop).unwrap();
        }
        let state = bn.state().unwrap();
        assert_eq!(state, row_by_row(&gpu, &bn), "{config:?}");
        assert_eq!(pollster::block_on(bn.state_async()).unwrap(), state);
        let tracked = config.track_running_stats.then_some(3);
        assert_eq!(state.num_batches_tracked, tracked);
        assert_eq!(state.weight.is_some(), config.weight);
        assert_eq!(state.bias.is_some(), config.bias);
        assert_eq!(state.running_mean.is_some(), config.track_running_stats);
    }
}

#[test]
fn weight_and_bias_are_set_one_by_one() {
    let gpu = gpu();
    let mut bn = BatchNormConfig::new(3).build(&gpu).unwrap();
    let mut expected = bn.state().unwrap();
    bn.set_bias(&[4.0, 5.0, 6.0]).unwrap();
    expected.bias = Some(vec![4.0, 5.0, 6.0]);
    assert_eq!(bn.state().unwrap(), expected);
    bn.set_weight(&[0.0, -1.0, 2.0]).unwrap();
    expected.weight = Some(vec![0.0, -1.0, 2.0]);
    assert_eq!(bn.state().unwrap(), expected);
    // The next pass goes by them.
    let x = gpu.tensor(Shape::nc(4, 3), &noise(1, 12)).unwrap();
    let y = bn.eval(&x).unwrap().read().unwrap();
    assert_eq!([y[0], y[3], y[6], y[9]], [4.0; 4], "a weight of zero");

    let mut halves = [
        BatchNormConfig::new(3).weight(false).build(&gpu).unwrap(),
        BatchNormConfig::new(3).bias(false).build(&gpu).unwrap(),
    ];
    let before = halves.each_ref().map(|bn| bn.state().unwrap());
    let errors = [
        bn.set_weight(&[1.0; 2]),
        bn.set_bias(&[1.0; 4]),
        halves[0].set_weight(&[1.0; 3]),
        halves[1].set_bias(&[1.0; 3]),
    ];
    let starts = [
        "weight: expected 3 values",
        "bias: expected 3 values",
        "weight: is given",
        "bias: is given",
    ];
    for (error, start) in errors.into_iter().zip(starts) {
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Tensor(_)), "{error}");
        assert!(error.to_string().starts_with(start), "{error}");
    }
    assert_eq!(bn.state().unwrap(), expected);
    assert_eq!(halves.each_ref().map(|bn| bn.state().unwrap()), before);
    // A layer with one of the two sets that one.
    halves[0].set_bias(&[1.0, 2.0, 3.0]).unwrap();
    halves[1].set_weight(&[1.0, 2.0, 3.0]).unwrap();
    let [bias, weight] = halves.map(|bn| bn.state().unwrap());
    assert_eq!(bias.bias, weight.weight);
}

#[test]
fn a_tuning_is_for_one_problem_and_one_pass() {
    let gpu = gpu();
    let (shape, config) = (Shape::nchw(8, 32, 8, 8), BatchNormConfig::new(32));
    let narrow = Problem::new(shape, Dtype::F16);
    let (x, dy) = (noise(1, 16_384), noise(2, 16_384));
    let eps = f64::from(config.eps);
    let forward = oracle::train(shape, &wide(&x), None, None, eps);
    let backward = oracle::backward(shape, &wide(&x), &wide(&dy), None, eps);
    let [x, dy] = [&x, &dy].map(|values| gpu.tensor(shape, values).unwrap());
    let tile = Tile::new(8, 8).columns(2);
    for strategy in [Strategy::Reread, Strategy::Split] {
        let forced = Tuning::default().strategy(Some(strategy)).tile(Some(tile));
        let tuning = LayerTuning::default()
            .train(forced)
            .eval(Tuning::default().tile(Some(tile)))
            .backward(forced)
            .frozen_backward(Tuning::default().tile(Some(tile)));
        let mut bn = config.build(&gpu).unwrap();
        assert_eq!(bn.tuning(shape), LayerTuning::default());
        bn.set_tuning(shape, tuning);
        assert_eq!(bn.tuning(shape), tuning);
        assert_eq!(bn.tuning(narrow), LayerTuning::default());
        let (y, saved) = bn.train(&x).unwrap();
        let close = Bound::new(1e-5, 1e-5);
        within("y", &y.read().unwrap(), &forward.y, close).unwrap();
        let gradients = bn.backward(saved, &dy).unwrap();
        within("dx", &gradients.dx.read().unwrap(), &backward.dx, close).unwrap();
        let (frozen, saved) = bn.frozen(&x).unwrap();
        let evaluated = bn.eval(&x).unwrap();
        assert_eq!(frozen.read().unwrap(), evaluated.read().unwrap());
        bn.backward(saved, &dy).map(drop).unwrap();
    }
}

#[test]
fn a_tuning_that_cannot_be_is_an_error_of_its_pass_alone() {
    let gpu = gpu();
    let (shape, config) = (Shape::nchw(2, 3, 7, 7), BatchNormConfig::new(3));
    let reread = Tuning::default().strategy(Some(Strategy::Reread));
    let x = gpu.tensor(shape, &noise(1, 294)).unwrap();
    let mut bn = config.build(&gpu).unwrap();
    let before = bn.state().unwrap();
    bn.set_tuning(shape, LayerTuning::default().train(reread));
    let error = bn.train(&x).map(drop).unwrap_err();
    assert!(
        matches!(error, Error::Plan(PlanError::Strategy { .. })),
        "{error}"
    );
    assert_eq!(bn.state().unwrap(), before);
    bn.eval(&x).map(drop).unwrap();

    bn.set_tuning(shape, LayerTuning::default().backward(reread));
    let (y, saved) = bn.train(&x).unwrap();
    let refused = bn.backward(saved, &y).unwrap_err();
    assert!(
        matches!(refused.error, Error::Plan(PlanError::Strategy { .. })),
        "{refused}"
    );
    bn.set_tuning(shape, LayerTuning::default());
    bn.backward(*refused.saved, &y).map(drop).unwrap();
    assert_eq!(bn.state().unwrap().num_batches_tracked, Some(1));
}

/// Without running statistics, the two forward passes that backward may follow are one.
#[test]
fn frozen_without_running_statistics_is_train() {
    let gpu = gpu();
    for shape in [Shape::nchw(2, 6, 5, 5), Shape::nhwc(4, 4, 4, 6)] {
        let mut bn = BatchNormConfig::new(6)
            .track_running_stats(false)
            .build(&gpu)
            .unwrap();
        let count = shape.elements().unwrap();
        let [x, dy] = [1, 2].map(|seed| gpu.tensor(shape, &noise(seed, count)).unwrap());
        let (y, saved) = bn.train(&x).unwrap();
        let (frozen, frozen_saved) = bn.frozen(&x).unwrap();
        assert_eq!(frozen.read().unwrap(), y.read().unwrap());
        assert_eq!(frozen_saved.held_bytes(), saved.held_bytes());
        let [a, b] = [saved, frozen_saved].map(|saved| bn.backward(saved, &dy).unwrap());
        assert_eq!(a.dx.read().unwrap(), b.dx.read().unwrap());
        assert_eq!(a.weight().unwrap(), b.weight().unwrap());
        assert_eq!(a.bias().unwrap(), b.bias().unwrap());
    }
}

/// At its largest value the counter stays. Back at zero, it would weigh a batch as the first one, or divide by zero.
#[test]
fn the_counter_of_batches_does_not_wrap() {
    let gpu = gpu();
    let mut bn = BatchNormConfig::new(3).momentum(None).build(&gpu).unwrap();
    let mut state = bn.state().unwrap();
    state.num_batches_tracked = Some(u32::MAX.into());
    state.running_mean = Some(vec![2.0; 3]);
    bn.load_state(&state).unwrap();
    let x = gpu.tensor(Shape::nc(9, 3), &noise(1, 27)).unwrap();
    for _ in 0..2 {
        bn.train(&x).map(drop).unwrap();
        let after = bn.state().unwrap();
        assert_eq!(after.num_batches_tracked, state.num_batches_tracked);
        // A batch of so many weighs nothing.
        assert_eq!(after.running_mean, state.running_mean);
        assert_eq!(after.running_var, state.running_var);
    }
}
