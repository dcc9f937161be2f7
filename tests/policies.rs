//! What a layer does where frameworks differ: presets, momentum, single values, and values that are not finite.

use crate::common::{gpu, noise, wide};
use wgpu_norm::batch_norm::{
    LayerTuning, Momentum, NonFinite, Preset, RunningVariance, SingleValue, Strategy, Tuning,
};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNorm, BatchNormConfig, Error, Gpu, PlanError, Shape, TensorError};

/// The statistics of a new layer after one batch of values 1, 2, 3, 6, whose mean is 3 and whose squares sum to 14.
fn after_one_batch(gpu: &Gpu, config: BatchNormConfig) -> [f32; 2] {
    let mut bn = config.build(gpu).unwrap();
    let x = gpu.tensor(Shape::nc(4, 1), &[1.0, 2.0, 3.0, 6.0]).unwrap();
    bn.train(&x).map(drop).unwrap();
    let state = bn.state().unwrap();
    [
        state.running_mean.unwrap()[0],
        state.running_var.unwrap()[0],
    ]
}

/// The table of `Preset`, row by row.
#[test]
fn presets_are_the_frameworks_defaults() {
    let gpu = gpu();
    let table = [
        (Preset::Torch, 0.1, 1e-5, 14.0 / 3.0),
        (Preset::Keras, 0.01, 1e-3, 14.0 / 4.0),
        (Preset::Flax, 0.01, 1e-5, 14.0 / 4.0),
        (Preset::Onnx, 0.1, 1e-5, 14.0 / 4.0),
        (Preset::Burn, 0.1, 1e-5, 14.0 / 4.0),
    ];
    assert_eq!(table.map(|row| row.0), Preset::ALL);
    for (preset, share, eps, variance) in table {
        let config = preset.config(1);
        assert_eq!(config.eps, eps, "{preset}");
        assert_eq!(config.non_finite, NonFinite::Propagate, "{preset}");
        let single = match preset {
            Preset::Torch => SingleValue::Error,
            _ => SingleValue::Update,
        };
        assert_eq!(config.single_value, single, "{preset}");
        let moved = after_one_batch(&gpu, config);
        let expected = [share * 3.0, (1.0 - share) + share * variance];
        within(preset.name(), &moved, &expected, Bound::new(1e-6, 0.0)).unwrap();
    }
}

#[test]
fn momentum_is_the_new_share_in_torch_and_the_old_one_in_keras() {
    let gpu = gpu();
    let config = BatchNormConfig::new(1);
    let pairs = [(0.25, 0.75), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5)];
    for (new, old) in pairs {
        let [torch, keras] = [Momentum::Torch(new), Momentum::Keras(old)]
            .map(|momentum| after_one_batch(&gpu, config.momentum(momentum)));
        assert_eq!(torch, keras);
        assert_eq!(torch[0], 3.0 * new);
    }
    assert_eq!(Momentum::from(0.1), Momentum::Torch(0.1));
    assert_eq!(Momentum::from(None), Momentum::Cumulative);
    assert_eq!(Momentum::from(Some(0.3)), Momentum::Torch(0.3));
    // 1 - 0.99, rounded once.
    assert_eq!(
        Momentum::Keras(0.99).share(),
        Some((1.0 - f64::from(0.99f32)) as f32)
    );
}

/// A layer after a batch of noise.
fn trained(gpu: &Gpu, config: BatchNormConfig) -> BatchNorm {
    let channels = config.num_features;
    let mut bn = config.build(gpu).unwrap();
    let x = noise(11, 6 * channels);
    let x = gpu.tensor(Shape::nc(6, channels), &x).unwrap();
    bn.train(&x).map(drop).unwrap();
    bn.set_bias(&noise(12, channels)).unwrap();
    bn
}

#[test]
fn a_single_value_does_what_the_policy_says() {
    let gpu = gpu();
    let shape = Shape::nchw(1, 5, 1, 1);
    let (values, gradient) = (noise(1, 5), noise(2, 5));
    let [x, dy] = [&values, &gradient].map(|values| gpu.tensor(shape, values).unwrap());
    for &policy in SingleValue::ALL {
        let mut bn = trained(&gpu, BatchNormConfig::new(5).single_value(policy));
        let before = bn.state().unwrap();
        let result = bn.train(&x);
        if policy == SingleValue::Error {
            let error = result.unwrap_err();
            assert!(
                matches!(error, Error::Plan(PlanError::TooFewValues { .. })),
                "{error}"
            );
            assert_eq!(bn.state().unwrap(), before);
            continue;
        }
        let (y, saved) = result.unwrap();
        let y = y.read().unwrap();
        let dx = bn.backward(saved, &dy).unwrap().dx.read().unwrap();
        let after = bn.state().unwrap();
        if policy == SingleValue::Running {
            assert_eq!(y, bn.eval(&x).unwrap().read().unwrap());
            let (_, saved) = bn.frozen(&x).unwrap();
            assert_eq!(dx, bn.backward(saved, &dy).unwrap().dx.read().unwrap());
            assert!(dx.iter().all(|dx| *dx != 0.0));
        } else {
            assert_eq!(Some(&y), before.bias.as_ref(), "{policy}: y is the bias");
            assert_eq!(dx, [0.0; 5], "{policy}");
        }
        if policy == SingleValue::Update {
            let share = |old: &Option<Vec<f32>>, new: &[f32]| -> Vec<f64> {
                let old = wide(old.as_ref().unwrap()).into_iter();
                old.zip(new)
                    .map(|(old, &new)| 0.9 * old + 0.1 * f64::from(new))
                    .collect()
            };
            let bound = Bound::new(1e-6, 1e-7);
            let mean = share(&before.running_mean, &values);
            within("mean", after.running_mean.as_ref().unwrap(), &mean, bound).unwrap();
            let var = share(&before.running_var, &[0.0; 5]);
            within("var", after.running_var.as_ref().unwrap(), &var, bound).unwrap();
            assert_eq!(after.num_batches_tracked, Some(2));
        } else {
            assert_eq!(after, before, "{policy} moves nothing");
        }
    }
}

/// Channels 1 and 3 of five are not finite: by a NaN, by an infinity, and by squares beyond f32.
#[test]
fn what_is_not_finite_moves_only_what_the_policy_says() {
    let gpu = gpu();
    let shape = Shape::nchw(4, 5, 4, 4);
    let config = BatchNormConfig::new(5);
    let good = noise(3, 320);
    for (spoiled, plain) in [
        (f32::NAN, good.clone()),
        (f32::INFINITY, good.clone()),
        (3e30, good),
    ] {
        let mut values = plain.clone();
        // Channel 1 of the first sample, channel 3 of the last.
        values[16 + 7] = spoiled;
        values[3 * 80 + 3 * 16 + 15] = -spoiled;
        let [x, plain] = [&values, &plain].map(|values| gpu.tensor(shape, values).unwrap());
        for strategy in [
            None,
            Some(Strategy::Resident),
            Some(Strategy::Reread),
            Some(Strategy::Split),
        ] {
            let forced = Tuning::default().strategy(strategy);
            let layer = |policy| {
                let mut bn = config.non_finite(policy).build(&gpu).unwrap();
                bn.set_tuning(shape, LayerTuning::default().train(forced));
                bn
            };
            let policies = [NonFinite::Propagate, NonFinite::Skip, NonFinite::Error];
            let [mut propagates, mut skips, mut tells] = policies.map(layer);
            let mut reference = layer(NonFinite::Propagate);
            reference.train(&plain).map(drop).unwrap();
            let reference = reference.state().unwrap();

            let (y, _saved) = propagates.train(&x).unwrap();
            let y = y.read().unwrap();
            let state = propagates.state().unwrap();
            let (mean, var) = (state.running_mean.unwrap(), state.running_var.unwrap());
            for channel in 0..5 {
                let finite = mean[channel].is_finite() && var[channel].is_finite();
                assert_eq!(finite, channel % 2 == 0, "{spoiled} {strategy:?} {channel}");
            }

            let (same, _saved) = skips.train(&x).unwrap();
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&same.read().unwrap()), bits(&y), "the output shows it");
            let state = skips.state().unwrap();
            assert_eq!(state.num_batches_skipped, Some(vec![0, 1, 0, 1, 0]));
            assert_eq!(state.num_batches_tracked, Some(1));
            for (moved, wanted, initial) in [
                (state.running_mean, &reference.running_mean, 0.0),
                (state.running_var, &reference.running_var, 1.0),
            ] {
                let (moved, wanted) = (moved.unwrap(), wanted.as_ref().unwrap());
                for channel in 0..5 {
                    let wanted = if channel % 2 == 0 {
                        wanted[channel]
                    } else {
                        initial
                    };
                    assert_eq!(moved[channel], wanted, "{spoiled} {strategy:?} {channel}");
                }
            }

            tells.train(&x).map(drop).unwrap();
            let error = tells.state().unwrap_err();
            let told = TensorError::NonFinite {
                channel: 1,
                batches: 1,
            };
            assert_eq!(error, Error::Tensor(told));
            // It is told once.
            let state = tells.state().unwrap();
            assert_eq!(state.num_batches_skipped, Some(vec![0, 1, 0, 1, 0]));
            tells.load_state(&state).unwrap();
            assert_eq!(tells.state().unwrap(), state);
            tells.train(&x).map(drop).unwrap();
            let told = TensorError::NonFinite {
                channel: 1,
                batches: 2,
            };
            assert_eq!(tells.state().unwrap_err(), Error::Tensor(told));

            // The pieces, and statistics without gradients, do the same.
            let mut updated = layer(NonFinite::Skip);
            updated.update_running_stats(&x).unwrap();
            let mut moments = updated.state().unwrap();
            assert_eq!(moments.num_batches_skipped, Some(vec![0, 1, 0, 1, 0]));
            assert_eq!(moments.running_mean.take().unwrap()[1], 0.0);
            let mut precise = updated.precise_statistics().unwrap();
            precise.add(&x).unwrap();
            precise.add(&plain).unwrap();
            let state = precise.finish().unwrap();
            assert_eq!(state.num_batches_tracked, Some(2));
            assert_eq!(state.num_batches_skipped, Some(vec![0, 1, 0, 1, 0]));
            assert!(
                state
                    .running_mean
                    .unwrap()
                    .iter()
                    .all(|mean| mean.is_finite())
            );
        }
    }
}

/// What the error has told of is forgotten with the statistics.
#[test]
fn new_statistics_tell_anew() {
    let gpu = gpu();
    let config = BatchNormConfig::new(1).non_finite(NonFinite::Error);
    let mut bn = config.build(&gpu).unwrap();
    let spoiled = gpu.tensor(Shape::nc(2, 1), &[f32::NAN, 1.0]).unwrap();
    let told = |batches| {
        let channel = 0;
        Error::Tensor(TensorError::NonFinite { channel, batches })
    };
    for _ in 0..3 {
        bn.train(&spoiled).map(drop).unwrap();
    }
    assert_eq!(bn.state().unwrap_err(), told(3));
    bn.reset_running_stats().unwrap();
    bn.train(&spoiled).map(drop).unwrap();
    assert_eq!(bn.state().unwrap_err(), told(1));
    assert_eq!(bn.state().unwrap().num_batches_skipped, Some(vec![1]));
}

/// A channel that skips averages over its own batches, and goes on so after its state was saved and loaded.
#[test]
fn skipped_batches_are_part_of_the_state() {
    let gpu = gpu();
    let config = BatchNormConfig::new(2)
        .momentum(None)
        .non_finite(NonFinite::Skip);
    let batches: Vec<_> = (0..4).map(|seed| noise(seed, 12)).collect();
    let run = |bn: &mut BatchNorm, batches: &[Vec<f32>]| {
        for (index, batch) in batches.iter().enumerate() {
            let mut batch = batch.clone();
            if index == 0 {
                batch[1] = f32::NAN;
            }
            let x = gpu.tensor(Shape::nc(6, 2), &batch).unwrap();
            bn.train(&x).map(drop).unwrap();
        }
    };
    let mut whole = config.build(&gpu).unwrap();
    run(&mut whole, &batches);
    let state = whole.state().unwrap();
    assert_eq!(state.num_batches_tracked, Some(4));
    assert_eq!(state.num_batches_skipped, Some(vec![0, 1]));
    let mut running = oracle::Running::new(2);
    for batch in &batches {
        let forward = oracle::train(Shape::nc(6, 2), &wide(batch), None, None, 1e-5);
        running.update(&forward, 6, None);
    }
    let mut second = oracle::Running::new(2);
    for batch in &batches[1..] {
        let forward = oracle::train(Shape::nc(6, 2), &wide(batch), None, None, 1e-5);
        second.update(&forward, 6, None);
    }
    let expected = [running.mean[0], second.mean[1]];
    let mean = state.running_mean.clone().unwrap();
    within("mean", &mean, &expected, Bound::new(1e-6, 1e-7)).unwrap();

    // The state of a break in the middle.
    let mut first = config.build(&gpu).unwrap();
    run(&mut first, &batches[..2]);
    let mut resumed = config.build(&gpu).unwrap();
    let broken_off = first.state().unwrap();
    resumed.load_state(&broken_off).unwrap();
    assert_eq!(resumed.state().unwrap(), broken_off);
    for batch in &batches[2..] {
        let x = gpu.tensor(Shape::nc(6, 2), batch).unwrap();
        resumed.train(&x).map(drop).unwrap();
    }
    assert_eq!(resumed.state().unwrap(), state);

    let mut wrong = state.clone();
    wrong.num_batches_skipped = Some(vec![0, 5]);
    let error = resumed.load_state(&wrong).unwrap_err().to_string();
    assert_eq!(error, "num_batches_skipped: 5 of 4 batches in channel 1");
    wrong.num_batches_skipped = Some(vec![0]);
    let error = resumed.load_state(&wrong).unwrap_err().to_string();
    assert!(
        error.starts_with("num_batches_skipped: expected 2 values"),
        "{error}"
    );
    assert_eq!(resumed.state().unwrap(), state);
}

#[test]
fn a_biased_layer_trains_alike() {
    let gpu = gpu();
    let config = BatchNormConfig::new(3);
    let x = gpu.tensor(Shape::nc(4, 3), &noise(5, 12)).unwrap();
    let outputs = RunningVariance::ALL.iter().map(|&variance| {
        let mut bn = config.running_variance(variance).build(&gpu).unwrap();
        bn.train(&x).unwrap().0.read().unwrap()
    });
    let outputs: Vec<_> = outputs.collect();
    assert_eq!(outputs[0], outputs[1]);
}
