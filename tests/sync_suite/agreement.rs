//! Ranks that do not do the same find out, and can go on.

use std::time::Instant;

use wgpu_norm::batch_norm::{NonFinite, RunningVariance, Wanted};
use wgpu_norm::sync::{Group, PreciseStats, SyncBatchNorm};
use wgpu_norm::{BatchNormConfig, Dtype, Error, Problem, Shape, SyncError, TensorError};

use super::rank::{Rank, Shards, running};

/// What the ranks got, at once: all of them the same difference, between the first rank and this one.
fn differs(rank: &Rank, start: Instant, error: &Error, field: &str, with: usize) {
    let waited = start.elapsed();
    if rank.rank() == 0 {
        println!("    differs: rank 0 after {waited:.3?}: {error}");
    }
    assert!(waited < rank.group.options().timeout / 4, "{waited:?}");
    match error {
        Error::Sync(SyncError::Disagree {
            field: named,
            first: 0,
            rank: other,
            ..
        }) => assert_eq!((*named, *other), (field, with), "{error}"),
        _ => panic!("rank {}: {error}", rank.rank()),
    }
}

fn train(rank: &Rank, layer: &mut SyncBatchNorm, dtype: Dtype) -> Result<(), Error> {
    let channels = layer.config().num_features;
    let shape = Shape::nchw(2, channels, 4, 4);
    let problem = Problem::new(shape, dtype);
    let values = vec![1.0; shape.elements().unwrap()];
    let (_, _saved) = layer.train(&rank.gpu.tensor(problem, &values)?)?;
    Ok(())
}

pub fn a_difference_is_named_on_all_ranks(rank: &Rank) {
    if rank.size() == 1 {
        return;
    }
    let last = rank.size() - 1;
    let odd = rank.rank() == last;
    let config = BatchNormConfig::new(3);
    let make = |config: BatchNormConfig| config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    for (field, other) in [
        ("num_features", BatchNormConfig::new(5)),
        ("eps", config.eps(1e-3)),
        ("momentum", config.momentum(None)),
        (
            "running_variance",
            config.running_variance(RunningVariance::Biased),
        ),
        ("non_finite", config.non_finite(NonFinite::Skip)),
        ("bias", config.bias(false)),
    ] {
        let mut layer = make(if odd { other } else { config });
        let before = running(layer.local());
        let start = Instant::now();
        let error = train(rank, &mut layer, Dtype::F32).unwrap_err();
        differs(rank, start, &error, field, last);
        assert_eq!(running(layer.local()), before);
    }
    // A rank with another storage type.
    let mut layer = make(config);
    let dtype = if odd { Dtype::F16 } else { Dtype::F32 };
    let start = Instant::now();
    let error = train(rank, &mut layer, dtype).unwrap_err();
    differs(rank, start, &error, "dtype", last);
    // A rank that skips a layer is in the next one.
    let (mut first, mut second) = (make(config), make(config));
    let skipped = if odd { &mut second } else { &mut first };
    let start = Instant::now();
    let error = train(rank, skipped, Dtype::F32).unwrap_err();
    differs(rank, start, &error, "layer", last);
    // A rank that goes back while the others go on, and one that goes back through another step.
    let shards = Shards::images(1, &rank.uneven(2));
    let (_, saved) = rank.forward(&mut first, &shards);
    let (_, again) = rank.forward(&mut first, &shards);
    let part = shards.part(rank.rank(), &shards.dy);
    let dy = rank.gpu.tensor(shards.problem(rank.rank()), part).unwrap();
    let (used, kept) = if odd { (again, saved) } else { (saved, again) };
    let start = Instant::now();
    let refused = first.backward(used, &dy).unwrap_err();
    differs(rank, start, &refused.error, "step", last);
    let start = Instant::now();
    let error = if odd {
        first.backward(kept, &dy).unwrap_err().into()
    } else {
        train(rank, &mut first, Dtype::F32).unwrap_err()
    };
    differs(rank, start, &error, "operation", last);
    // Nothing has moved, and all of them can go on as if nothing had been.
    let _ = rank.step(&mut first, &shards);
    let moved = running(first.local());
    rank.same_everywhere("running", &moved);
    assert_eq!(moved[6], 3.0);
    // A rank that has another number of values to average.
    let mut values = vec![1.0; if odd { 3 } else { 2 }];
    let start = Instant::now();
    let error = rank.group.average(&mut values, 1.0).unwrap_err();
    differs(rank, start, &error, "values", last);
}

pub fn an_error_on_one_rank_reaches_all(rank: &Rank) {
    if rank.size() == 1 {
        return;
    }
    let config = BatchNormConfig::new(3);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let before = running(sync.local());
    let channels = if rank.rank() == 1 { 4 } else { 3 };
    let shape = Shape::nchw(2, channels, 4, 4);
    let values = vec![0.5; shape.elements().unwrap()];
    let x = rank.gpu.tensor(shape, &values).unwrap();
    let own = "x: expected 3 channels, got 4 in n2c4h4w4 nchw";
    let check = |error: Error| match (rank.rank(), error) {
        (1, error) => assert_eq!(error.to_string(), own),
        (_, error) => {
            let message = own.to_owned();
            assert_eq!(error, SyncError::Remote { rank: 1, message }.into());
        }
    };
    check(sync.train(&x).unwrap_err());
    assert_eq!(running(sync.local()), before);
    // Backward, by a gradient of another shape.
    let shards = Shards::images(1, &vec![2; rank.size()]);
    let (_, saved) = rank.forward(&mut sync, &shards);
    let refused = sync.backward(saved, &x);
    if rank.rank() == 1 {
        let refused = refused.unwrap_err();
        assert!(refused.to_string().starts_with("dy: expected n2c3h4w4"));
        // With what it gave back, all ranks try again.
        let _ = rank.backward(&sync, &shards, *refused.saved);
    } else {
        let refused = refused.unwrap_err();
        let Error::Sync(SyncError::Remote { rank: 1, message }) = &refused.error else {
            panic!("{}", refused.error);
        };
        assert!(message.starts_with("dy: expected n2c3h4w4"), "{message}");
        let _ = rank.backward(&sync, &shards, *refused.saved);
    }
}

/// What exchanges nothing fails alone, and pendings of another layer are told as such.
pub fn an_error_of_a_local_call_stays_local(rank: &Rank) {
    let config = BatchNormConfig::new(3);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let mut other = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let shards = Shards::images(1, &vec![2; rank.size()]);
    let (_, saved) = rank.forward(&mut sync, &shards);
    let part = shards.part(rank.rank(), &shards.dy);
    let mut dy = rank.gpu.tensor(shards.problem(rank.rank()), part).unwrap();
    if rank.rank() == 0 {
        dy = rank.gpu.tensor(Shape::nc(2, 3), &[1.0; 6]).unwrap();
    }
    let wanted = Wanted::default().dx(None);
    let result = sync.backward_with(saved, &dy, wanted);
    assert_eq!(result.is_err(), rank.rank() == 0);
    // The ranks are still in step.
    let (_, saved) = rank.forward(&mut sync, &shards);
    let _ = rank.backward(&sync, &shards, saved);

    // A pass that another layer has begun, on all ranks.
    let (_, saved) = rank.forward(&mut sync, &shards);
    let dy = rank.gpu.tensor(shards.problem(rank.rank()), part).unwrap();
    let pending = sync.begin_backward(saved, &dy, Wanted::default());
    let error: Error = other.finish_backward(pending).unwrap_err().into();
    assert_eq!(error, TensorError::ForeignSaved.into());
    let pending = sync.begin_train(&dy);
    let error = other.finish_train(pending).unwrap_err();
    assert_eq!(error, TensorError::ForeignSaved.into());
    let error = other.set_precise(PreciseStats::new(&sync)).unwrap_err();
    assert_eq!(error, TensorError::ForeignSaved.into());
    let _ = rank.step(&mut other, &shards);
}

/// A tree of two neighbours each names the rank of the group.
pub fn errors_go_through_a_tree(rank: &Rank) {
    if rank.size() < 3 {
        return;
    }
    let deadline = std::time::Instant::now() + rank.group.options().timeout;
    let engine = rank.group.engine().split(0, deadline).unwrap();
    let options = rank.group.options().fan_out(2);
    let tree = Group::with_options(engine, options).unwrap();
    let last = rank.size() - 1;
    let odd = rank.rank() == last;
    let mut values = vec![1.0; if odd { 3 } else { 2 }];
    let error = tree.average(&mut values, 1.0).unwrap_err();
    match error {
        Error::Sync(SyncError::Disagree {
            field: "values",
            first,
            rank: other,
            ..
        }) => {
            // Neighbours compare first.
            let neighbour = if last % 2 == 1 { last - 1 } else { 0 };
            assert_eq!((first, other), (neighbour, last));
        }
        error => panic!("{error}"),
    }
    let weight = if odd { -1.0 } else { 1.0 };
    let error = tree.average(&mut [1.0], weight).unwrap_err().to_string();
    let own = "weight: must be 0 or more, got -1";
    let expected = if odd {
        own.to_owned()
    } else {
        format!("rank {last} failed: {own}")
    };
    assert_eq!(error, expected);
    tree.average(&mut [1.0], 1.0).unwrap();
}
