//! Which ranks have a part in what.

use wgpu_norm::batch_norm::Freeze;
use wgpu_norm::reference::Moments;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::sync::{Group, GroupOptions, PreciseStats};
use wgpu_norm::{BatchNormConfig, Error, PlanError, SyncError};

use super::rank::{Rank, Shards, running};

/// Every other rank is in a group with the others of its kind.
pub fn statistics_stay_with_their_group(rank: &Rank) {
    let half = Rank {
        group: rank.group.split(rank.rank() as u32 % 2).unwrap(),
        gpu: rank.gpu.clone(),
    };
    let config = BatchNormConfig::new(3);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&half.group);
    // Each half has other values.
    let seed = 20 + rank.rank() as u64 % 2;
    let samples: Vec<usize> = (1..=half.size()).collect();
    let shards = Shards::images(seed, &samples);
    let _ = half.step(&mut sync, &shards);
    let moved = running(sync.local());
    half.same_everywhere("running", &moved);
    let mut local = config.build(&rank.gpu).unwrap();
    let x = rank.gpu.tensor(shards.whole, &shards.x).unwrap();
    let _ = local.train(&x).unwrap();
    let local: Vec<f64> = running(&local).into_iter().map(f64::from).collect();
    within("running", &moved, &local, Bound::new(1e-6, 1e-6)).unwrap();
    let all = rank.all(&moved);
    assert!(rank.size() == 1 || all[0] != all[1]);
    // The whole group is as before.
    rank.group.average(&mut [1.0], 1.0).unwrap();
}

/// Ranks that exchange with two neighbours each have the bits of all.
pub fn a_tree_is_a_group(rank: &Rank) {
    let all = rank.group.split(0).unwrap();
    let engine = all
        .engine()
        .split(0, std::time::Instant::now() + all.options().timeout);
    let options = all.options().fan_out(2);
    let tree = Rank {
        group: Group::with_options(engine.unwrap(), options).unwrap(),
        gpu: rank.gpu.clone(),
    };
    let config = BatchNormConfig::new(3);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&tree.group);
    let mut flat = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    for step in 0..4 {
        let shards = Shards::images(30 + step, &rank.uneven(step as usize));
        let (got, expected) = (tree.step(&mut sync, &shards), rank.step(&mut flat, &shards));
        for (name, (got, expected)) in ["y", "dx", "dweight", "dbias"]
            .iter()
            .zip(got.iter().zip(expected))
        {
            let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
            within(name, got, &expected, Bound::new(1e-5, 1e-5)).unwrap();
        }
    }
    rank.same_everywhere("running", &running(sync.local()));
    let mut values = [rank.rank() as f32, 1.0];
    tree.group.average(&mut values, 1.0).unwrap();
    assert_eq!(values, [(rank.size() - 1) as f32 / 2.0, 1.0]);

    let engine = all
        .engine()
        .split(0, std::time::Instant::now() + all.options().timeout);
    let options = GroupOptions::default().fan_out(1);
    let error = Group::with_options(engine.unwrap(), options).unwrap_err();
    assert_eq!(error.to_string(), "fan_out: must be at least 2, got 1");
}

pub fn running_statistics_of_one_rank_or_of_all(rank: &Rank) {
    let config = BatchNormConfig::new(2);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let (own, last) = (rank.rank() as f32, rank.size() - 1);
    let set = |layer: &mut wgpu_norm::SyncBatchNorm| {
        let mut state = layer.local().state().unwrap();
        state.running_mean = Some(vec![own, -own]);
        state.running_var = Some(vec![1.0 + own, 0.5]);
        state.num_batches_tracked = Some(10 + rank.rank() as u64);
        layer.local_mut().load_state(&state).unwrap();
    };
    set(&mut sync);
    sync.average_running().unwrap();
    let mean = last as f32 / 2.0;
    let counted = (10 + last) as f32;
    assert_eq!(
        running(sync.local()),
        [mean, -mean, 1.0 + mean, 0.5, counted]
    );
    for root in [last, 0] {
        set(&mut sync);
        sync.broadcast_running(root).unwrap();
        let of = root as f32;
        assert_eq!(running(sync.local()), [of, -of, 1.0 + of, 0.5, 10.0 + of]);
    }
    let error = sync.broadcast_running(last + 1).unwrap_err().to_string();
    let expected = format!("root: must be a rank below {0}, got {0}", last + 1);
    assert_eq!(error, expected);
    if last > 0 {
        let error = sync.broadcast_running(rank.rank().min(1)).unwrap_err();
        let named = matches!(
            error,
            Error::Sync(SyncError::Disagree { field: "root", .. })
        );
        assert!(named, "{error}");
    }
    let untracked = config.track_running_stats(false).build(&rank.gpu).unwrap();
    let mut untracked = untracked.to_sync(&rank.group);
    let none = Error::Plan(PlanError::NoRunningStatistics);
    assert_eq!(untracked.average_running().unwrap_err(), none);
    assert_eq!(untracked.broadcast_running(0).unwrap_err(), none);
}

/// Batches of other sizes on each rank, and on the last none at all.
pub fn precise_statistics_of_all_values(rank: &Rank) {
    let config = BatchNormConfig::new(3);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let mut precise = PreciseStats::new(&sync);
    let batches: Vec<Shards> = (0..3u64)
        .map(|batch| Shards::images(40 + batch, &rank.uneven(1 + 2 * batch as usize)))
        .collect();
    for shards in &batches {
        let own = shards.part(rank.rank(), &shards.x);
        precise.add(&rank.gpu.tensor(shards.problem(rank.rank()), own).unwrap());
    }
    sync.set_precise(precise).unwrap();
    let moved = running(sync.local());
    rank.same_everywhere("running", &moved);
    let mut expected = [Vec::new(), Vec::new()];
    for channel in 0..3 {
        let values = batches.iter().flat_map(|shards| {
            let of_channel = move |at: &usize| shards.whole.shape.channel_of(*at) == channel;
            let places = (0..shards.x.len()).filter(of_channel);
            places.map(|at| f64::from(shards.x[at]))
        });
        let moments = Moments::of(values);
        expected[0].push(moments.mean);
        expected[1].push(moments.m2 / (moments.count - 1.0));
    }
    within(
        "precise",
        &moved[..6],
        &expected.concat(),
        Bound::new(1e-6, 0.0),
    )
    .unwrap();
    assert_eq!(moved[6], 3.0);
    // Without values nothing moves.
    let nothing = PreciseStats::new(&sync);
    sync.set_precise(nothing).unwrap();
    assert_eq!(running(sync.local()), moved);
}

pub fn means_over_ranks(rank: &Rank) {
    let (own, size) = (rank.rank() as f32, rank.size() as f32);
    let mut values = [1.0, own];
    rank.group.sum(&mut values).unwrap();
    assert_eq!(values, [size, size * (size - 1.0) / 2.0]);
    // More than an engine sends before it is asked to.
    let mut many = vec![1.0; 200_000];
    rank.group.sum(&mut many).unwrap();
    assert_eq!(many, vec![size; 200_000]);
    // Each rank has as much weight as its number says: the first has none, and what it has is no number.
    let mut values = if rank.rank() == 0 {
        [f32::NAN, 7.0]
    } else {
        [own, 2.0]
    };
    rank.group.average(&mut values, own.into()).unwrap();
    if size > 1.0 {
        let weights = size * (size - 1.0) / 2.0;
        let squares = (size - 1.0) * size * (2.0 * size - 1.0) / 6.0;
        assert_eq!(values, [squares / weights, 2.0]);
        let weight = if rank.rank() == 1 { f64::NAN } else { 1.0 };
        let error = rank.group.average(&mut values, weight).unwrap_err();
        let message = error.to_string();
        let expected = if rank.rank() == 1 {
            "weight: must be 0 or more, got NaN"
        } else {
            "rank 1 failed: weight: must be 0 or more, got NaN"
        };
        assert_eq!(message, expected);
        assert_eq!(values, [squares / weights, 2.0]);
    } else {
        assert!(values[0].is_nan() && values[1] == 7.0);
    }
}

/// One rank evaluates, goes through frozen statistics and back, and freezes its layer, while the others do nothing.
pub fn evaluation_needs_nobody(rank: &Rank) {
    let config = BatchNormConfig::new(3);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    if rank.rank() == 0 {
        let shards = Shards::images(2, &[2]);
        let x = rank.gpu.tensor(shards.whole, &shards.x).unwrap();
        let y = sync.eval(&x).unwrap();
        let (same, saved) = sync.frozen(&x).unwrap();
        assert_eq!(same.read().unwrap(), y.read().unwrap());
        let gradients = sync.backward(saved, &x).unwrap();
        let mut frozen = config.build(&rank.gpu).unwrap();
        frozen.freeze(Freeze::ALL).unwrap();
        let (same, saved) = frozen.train(&x).unwrap();
        assert_eq!(same.read().unwrap(), y.read().unwrap());
        let other = frozen.backward(saved, &x).unwrap();
        assert_eq!(other.dx.read().unwrap(), gradients.dx.read().unwrap());
    }
    let none = config.track_running_stats(false).build(&rank.gpu).unwrap();
    let error = none.to_sync(&rank.group).to_frozen().unwrap_err();
    assert_eq!(error, PlanError::NoRunningStatistics.into());
    // All of them go on together.
    let _ = rank.step(&mut sync, &Shards::images(3, &rank.uneven(1)));
    let there = sync.to_local();
    let moved = running(&there);
    let mut back = there.to_sync(&rank.group).to_frozen().unwrap();
    assert_eq!(running(&back), moved);
    assert_eq!(back.frozen_parts(), Freeze::default().statistics(true));
    // A layer with frozen statistics needs nobody in training, either.
    back.freeze(Freeze::ALL).unwrap();
    let mut alone = back.to_sync(&rank.group);
    if rank.rank() == 0 {
        let shards = Shards::images(2, &[2]);
        let x = rank.gpu.tensor(shards.whole, &shards.x).unwrap();
        let (y, saved) = alone.train(&x).unwrap();
        assert_eq!(y.read().unwrap(), alone.eval(&x).unwrap().read().unwrap());
        assert!(alone.backward(saved, &x).unwrap().buffer().is_none());
        assert_eq!(running(alone.local()), moved);
    }
}
