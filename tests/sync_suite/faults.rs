//! Ranks that do not come.

use std::time::{Duration, Instant};

use wgpu_norm::sync::Group;
use wgpu_norm::{BatchNormConfig, Error, Shape, SyncError};

use super::rank::{Rank, running};

/// The others wait as long as they were told, and name it. It learns that it was given up. Nothing has moved.
pub fn a_slow_rank_is_named_in_time(rank: &Rank) {
    // Messages that MPI sends at once, and those of which the target must know before.
    for channels in [3, 1500] {
        if rank.size() > 1 {
            slow(rank, channels);
        }
    }
}

fn slow(rank: &Rank, channels: usize) {
    let timeout = Duration::from_millis(500);
    let deadline = Instant::now() + rank.group.options().timeout;
    let engine = rank.group.engine().split(0, deadline).unwrap();
    let options = rank.group.options();
    let group = Group::with_options(engine, options.timeout(timeout)).unwrap();
    let config = BatchNormConfig::new(channels);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&group);
    let shape = Shape::nc(2, channels);
    let own: Vec<f32> = (0..2 * channels).map(|i| (i % 7) as f32).collect();
    let x = rank.gpu.tensor(shape, &own).unwrap();
    let before = running(sync.local());
    // Kernels are compiled before the clock runs.
    drop(sync.begin_train(&x));
    rank.same_everywhere("ready", &[1.0]);
    let last = rank.size() - 1;
    if rank.rank() == last {
        std::thread::sleep(4 * timeout);
    }
    let start = Instant::now();
    let error = sync.train(&x).unwrap_err();
    let waited = start.elapsed();
    println!(
        "    slow: rank {} after {:.2} s: {error}",
        rank.rank(),
        waited.as_secs_f64()
    );
    match &error {
        Error::Sync(SyncError::Timeout { missing, .. }) if rank.rank() != last => {
            assert_eq!(*missing, [last]);
            assert!(waited >= timeout, "{waited:?}");
        }
        // Another rank of those that wait may have been the first to give up.
        Error::Sync(SyncError::GaveUp { reason, .. }) => match &**reason {
            SyncError::Timeout { missing, .. } => assert_eq!(*missing, [last]),
            reason => panic!("{reason}"),
        },
        _ => panic!("{error}"),
    }
    // Long before it comes.
    assert!(waited < 3 * timeout, "{waited:?}");
    assert_eq!(running(sync.local()), before);
    // From now on there is no waiting.
    let start = Instant::now();
    assert_eq!(sync.train(&x).unwrap_err(), error);
    assert_eq!(group.average(&mut [1.0], 1.0).unwrap_err(), error);
    assert!(start.elapsed() < timeout);
    // Other groups of the same ranks are not touched, whatever is still under way in this one.
    rank.same_everywhere("go on", &[2.0]);
    // The layer itself is as good as before.
    let mut local = sync.to_local();
    let _ = local.train(&x).unwrap();
}
