//! Synchronized statistics over threads of one process, by the suite that every engine passes.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use wgpu_norm::sync::{Collective, Group, GroupOptions, Threads};
use wgpu_norm::{BatchNormConfig, Error, Gpu, Shape, SyncError};

use crate::common::gpu;
use crate::sync_suite::rank::Rank;
use crate::sync_suite::{CASES, FAULTS};

/// Ranks of one process share the device: there are few cores, and a kernel is compiled once.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn options() -> GroupOptions {
    GroupOptions::default().timeout(Duration::from_secs(60))
}

/// Runs `each` on a thread for each of `size` ranks.
fn on_ranks(size: usize, each: impl Fn(Threads) + Sync) {
    let each = &each;
    std::thread::scope(|scope| {
        for engine in Threads::ranks(size) {
            scope.spawn(move || each(engine));
        }
    });
}

fn suite(size: usize) {
    let turn = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(|error| error.into_inner());
    let gpu = gpu();
    on_ranks(size, |engine| {
        let group = Group::with_options(engine, options()).unwrap();
        let rank = Rank {
            group,
            gpu: gpu.clone(),
        };
        for case in CASES.iter().chain(FAULTS) {
            let start = Instant::now();
            (case.run)(&rank);
            if rank.rank() == 0 {
                println!("{} of {size} ranks: {:?}", case.name, start.elapsed());
            }
        }
    });
    drop(turn);
}

#[test]
fn a_group_of_one_passes_the_suite() {
    suite(1);
}

/// The test `mpi` has two, three and four.
#[test]
fn five_ranks_pass_the_suite() {
    suite(5);
}

/// Each rank has a device of its own.
#[test]
fn several_devices_share_a_batch() {
    on_ranks(2, |engine| {
        let group = Group::with_options(engine, options()).unwrap();
        let rank = Rank {
            group,
            gpu: Gpu::open().unwrap(),
        };
        let mut sync = BatchNormConfig::new(2)
            .build(&rank.gpu)
            .unwrap()
            .to_sync(&rank.group);
        let x: Vec<f32> = (0..8).map(|i| (i * (1 + rank.rank())) as f32).collect();
        let x = rank.gpu.tensor(Shape::nc(4, 2), &x).unwrap();
        let (y, saved) = sync.train(&x).unwrap();
        let gradients = sync.backward(saved, &y).unwrap();
        assert!(gradients.dx.read().unwrap().iter().all(|v| v.is_finite()));
        let state = sync.local().state().unwrap();
        rank.same_everywhere("mean", &state.running_mean.unwrap());
        rank.same_everywhere("var", &state.running_var.unwrap());
    });
}

/// A thread that ends is told from one that is slow, at once.
#[test]
fn a_rank_that_ends_is_lost() {
    on_ranks(3, |engine| {
        if engine.rank() == 1 {
            return;
        }
        let group = Group::with_options(engine, options());
        let start = Instant::now();
        let error = group.unwrap_err();
        let lost = match &error {
            SyncError::RankLost { rank, .. } => *rank == 1,
            // The other one was faster to find out.
            SyncError::GaveUp { reason, .. } => {
                matches!(**reason, SyncError::RankLost { rank: 1, .. })
            }
            _ => false,
        };
        assert!(lost, "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

/// Many ranks: a tree of three levels, without a device.
#[test]
fn a_hundred_ranks_are_a_tree() {
    on_ranks(100, |engine| {
        let group = Group::with_options(engine, options().fan_out(5)).unwrap();
        let rank = group.rank() as f32;
        let mut values = [rank, rank * rank, 1.0];
        group.average(&mut values, 1.0).unwrap();
        assert_eq!(values, [49.5, 3283.5, 1.0]);
        // A rank deep in the tree has an error, and all others name it.
        let weight = if group.rank() == 77 { -1.0 } else { 1.0 };
        let error = group.average(&mut values, weight).unwrap_err().to_string();
        let prefix = if group.rank() == 77 {
            ""
        } else {
            "rank 77 failed: "
        };
        assert_eq!(error, format!("{prefix}weight: must be 0 or more, got -1"));
    });
}

/// In a tree, ranks that wait on other levels are told which rank is missing.
#[test]
fn a_slow_rank_deep_in_a_tree_is_named() {
    on_ranks(27, |engine| {
        let timeout = Duration::from_millis(800);
        let options = options().fan_out(3).timeout(timeout);
        let group = Group::with_options(engine, options).unwrap();
        group.sum(&mut [1.0]).unwrap();
        if group.rank() == 16 {
            std::thread::sleep(4 * timeout);
        }
        let start = Instant::now();
        let error = group.sum(&mut [1.0]).unwrap_err();
        let waited = start.elapsed();
        let named = match &error {
            Error::Sync(SyncError::Timeout { missing, .. }) => *missing == [16],
            Error::Sync(SyncError::GaveUp { reason, .. }) => {
                matches!(&**reason, SyncError::Timeout { missing, .. } if *missing == [16])
            }
            _ => false,
        };
        assert!(named, "rank {}: {error}", group.rank());
        assert!(waited < 3 * timeout, "{waited:?}");
        // Nobody waits for it again.
        let start = Instant::now();
        group.sum(&mut [1.0]).unwrap_err();
        assert!(start.elapsed() < timeout / 2);
    });
}

/// Ranks whose groups would have other shapes.
#[test]
fn another_fan_out_is_named() {
    on_ranks(3, |engine| {
        let fan_out = if engine.rank() == 2 { 2 } else { 3 };
        let error = Group::with_options(engine, options().fan_out(fan_out)).unwrap_err();
        let message = "fan_out: rank 0 has 3, rank 2 has 2;";
        assert!(error.to_string().starts_with(message), "{error}");
    });
}

/// What is no message of a group.
#[test]
fn a_stranger_is_named() {
    on_ranks(2, |engine| {
        let deadline = Instant::now() + Duration::from_secs(60);
        if engine.rank() == 1 {
            engine.all_gather(b"hello", deadline).unwrap();
            return;
        }
        let error = Group::with_options(engine, options()).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("rank 1 sent what cannot be read"),
            "{message}"
        );
    });
}

#[test]
fn the_engine_gives_bytes_to_whom_they_belong() {
    on_ranks(4, |engine| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let own = vec![engine.rank() as u8; engine.rank()];
        let all = engine.all_gather(&own, deadline).unwrap();
        assert_eq!(all, [vec![], vec![1], vec![2, 2], vec![3, 3, 3]]);
        for root in 0..4 {
            let got = engine.broadcast(root, &own, deadline).unwrap();
            assert_eq!(got, vec![root as u8; root]);
        }
        let error = engine.broadcast(4, &own, deadline).unwrap_err().to_string();
        assert_eq!(error, "root: must be a rank below 4, got 4");
        // Two groups of two, and of those each rank alone.
        let half = engine
            .split(7 * (engine.rank() as u32 % 2), deadline)
            .unwrap();
        assert_eq!((half.rank(), half.size()), (engine.rank() / 2, 2));
        let got = half.all_gather(&own, deadline).unwrap();
        let first = engine.rank() % 2;
        assert_eq!(
            got,
            [vec![first as u8; first], vec![first as u8 + 2; first + 2]]
        );
        let alone = half.split(half.rank() as u32, deadline).unwrap();
        assert_eq!(alone.all_gather(b"x", deadline).unwrap(), [b"x"]);
        // The whole is as before.
        assert_eq!(engine.all_gather(&own, deadline).unwrap(), all);
    });
}
