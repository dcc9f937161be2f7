//! A batch over several ranks is one batch.

use wgpu_norm::batch_norm::{Destination, Epilogue, SingleValue, Wanted};
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::sync::{Reduction, SyncBatchNorm};
use wgpu_norm::{BatchNormConfig, Dtype, Error, Layout, Shape, SyncError};

use super::rank::{Rank, Shards, parts, problem, running};
use crate::common::wide;

/// Sums over ranks of gradients that stay with each.
fn total(all: &[Vec<f32>]) -> Vec<f32> {
    let mut total = vec![0.0; all[0].len()];
    for part in all {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    total
}

fn layer(rank: &Rank, config: BatchNormConfig) -> SyncBatchNorm {
    let mut layer = config.build(&rank.gpu).unwrap();
    let channels = config.num_features;
    if config.weight {
        let weight: Vec<f32> = (0..channels).map(|c| 0.5 + c as f32).collect();
        layer.set_weight(&weight).unwrap();
    }
    layer.to_sync(&rank.group)
}

/// 100 steps with other shards in each: uneven, and often empty on one rank or on all but one.
pub fn parts_of_a_batch_are_the_batch(rank: &Rank) {
    let config = BatchNormConfig::new(3).momentum(Some(0.1));
    let mut sync = layer(rank, config);
    let mut local = config.build(&rank.gpu).unwrap();
    let weight = [0.5, 1.5, 2.5];
    local.set_weight(&weight).unwrap();
    let mut expected = Running::new(3);
    // The largest errors: y, dx, the gradients of the parameters.
    let mut worst = [0.0f64; 3];
    for step in 0..100usize {
        let samples: Vec<usize> = (0..rank.size())
            .map(|r| {
                if step % 5 == 4 && r != step % rank.size() {
                    0
                } else {
                    (step + 2 * r) % 4
                }
            })
            .collect();
        let shards = Shards::images(step as u64, &samples);
        let shape = shards.whole.shape;
        let (x, dy) = (wide(&shards.x), wide(&shards.dy));
        let forward = oracle::train(shape, &x, Some(&wide(&weight)), None, config.eps.into());
        let values = shape.values_per_channel().unwrap() as u64;
        expected.update(&forward, values, Some(0.1f32.into()));
        let [y, dx, dweight, dbias] = rank.step(&mut sync, &shards);
        let close = Bound::new(4e-6, 4e-6);
        let found = within("y", &y, shards.part(rank.rank(), &forward.y), close).unwrap();
        worst[0] = worst[0].max(found.error);
        if step % 10 == 0 {
            let eps = config.eps.into();
            let gradients = oracle::backward(shape, &x, &dy, Some(&wide(&weight)), eps);
            let part = shards.part(rank.rank(), &gradients.dx);
            let found = within("dx", &dx, part, Bound::new(1e-5, 1e-5)).unwrap();
            worst[1] = worst[1].max(found.error);
            let sums = Bound::new(1e-5, 1e-4);
            let [dweight, dbias] = [dweight, dbias].map(|own| total(&rank.all(&own)));
            let found = [
                within("dweight", &dweight, &gradients.dweight, sums).unwrap(),
                within("dbias", &dbias, &gradients.dbias, sums).unwrap(),
            ];
            worst[2] = found
                .iter()
                .fold(worst[2], |most, found| most.max(found.error));
        }
        // The one layer with the whole batch, on every rank.
        let x = rank.gpu.tensor(shape, &shards.x).unwrap();
        let _ = local.train(&x).unwrap();
    }
    let moved = running(sync.local());
    rank.same_everywhere("running", &moved);
    let close = Bound::new(4e-6, 4e-6);
    let reference = [&expected.mean[..], &expected.var[..]].concat();
    let found = within("running", &moved[..6], &reference, close).unwrap();
    if rank.rank() == 0 {
        let relative = found.error / reference[found.index].abs();
        let [y, dx, parameters] = worst;
        println!(
            "    100 steps: errors of y {y:.1e}, dx {dx:.1e}, dweight and dbias {parameters:.1e}, of a running statistic \
             relatively {relative:.1e}"
        );
    }
    within("running", &moved[..6], &wide(&running(&local)[..6]), close).unwrap();
    assert_eq!(moved[6], running(&local)[6]);
    assert_eq!(moved[6], expected.num_batches_tracked as f32);
}

/// As the local layer computes for the whole batch, to the rounding of the storage type.
pub fn storage_types_layouts_and_epilogues(rank: &Rank) {
    let (first, last) = (Layout::ChannelsFirst, Layout::ChannelsLast);
    let config = BatchNormConfig::new(4).momentum(None);
    for (dims, layout, dtype, config) in [
        (
            &[0, 2, 3, 4][..],
            last,
            Dtype::F16,
            config.epilogue(Epilogue::AddRelu),
        ),
        (
            &[0, 4],
            first,
            Dtype::Bf16,
            config.epilogue(Epilogue::Silu).bias(false),
        ),
        (&[0, 3, 4], last, Dtype::F32, config.affine(false)),
        (
            &[0, 4, 2, 2, 2],
            first,
            Dtype::F32,
            config.epilogue(Epilogue::Relu).weight(false),
        ),
    ] {
        let samples = rank.uneven(2);
        let mut dims = dims.to_vec();
        dims[0] = samples.iter().sum();
        let whole = problem(&dims, layout, dtype);
        let shards = Shards::new(whole, 7, &samples, 0.25);
        let mut sync = layer(rank, config);
        let mut local = layer(rank, config).to_local();
        let x = rank.gpu.tensor(whole, &shards.x).unwrap();
        let dy = rank.gpu.tensor(whole, &shards.dy).unwrap();
        let adds = config.epilogue == Epilogue::AddRelu;
        let (y, saved) = if adds {
            local.train((&x, &x)).unwrap()
        } else {
            local.train(&x).unwrap()
        };
        let gradients = local.backward(saved, &dy).unwrap();
        let [dx, dweight, dbias] = parts(&gradients);
        let got = rank.step(&mut sync, &shards);
        let ulp = match dtype {
            Dtype::F16 => 1e-3,
            Dtype::Bf16 => 8e-3,
            _ => 2e-6,
        };
        let close = Bound::new(ulp, ulp);
        let own = |values: &[f32]| wide(shards.part(rank.rank(), values));
        within("y", &got[0], &own(&y.read().unwrap()), close).unwrap();
        within("dx", &got[1], &own(&dx), close).unwrap();
        let sums = Bound::new(1e-5, 1e-5);
        within("dweight", &total(&rank.all(&got[2])), &wide(&dweight), sums).unwrap();
        within("dbias", &total(&rank.all(&got[3])), &wide(&dbias), sums).unwrap();
        let moved = running(sync.local());
        rank.same_everywhere("running", &moved);
        within(
            "running",
            &moved,
            &wide(&running(&local)),
            Bound::new(1e-6, 1e-6),
        )
        .unwrap();
    }
}

/// An empty rank takes part, in any storage type. Without any value nothing moves, and one value has no variance.
pub fn ranks_without_values(rank: &Rank) {
    let config = BatchNormConfig::new(3);
    let mut sync = layer(rank, config);
    let before = running(sync.local());
    let nowhere = vec![0; rank.size()];
    let [y, dx, dweight, dbias] = rank.step(&mut sync, &Shards::images(1, &nowhere));
    assert!(y.is_empty() && dx.is_empty());
    assert_eq!([dweight, dbias], [vec![0.0; 3], vec![0.0; 3]]);
    assert_eq!(running(sync.local()), before);

    // The last rank has one value, the others none; in a group of one it is the local layer's error.
    let last = rank.size() - 1;
    let one = Shape::nc((rank.rank() == last).into(), 3);
    let values = [1.0, 2.0, 3.0];
    let x = &values[..one.elements().unwrap()];
    let error = sync.train(&rank.gpu.tensor(one, x).unwrap()).unwrap_err();
    if last > 0 {
        assert_eq!(error, SyncError::TooFewValues.into());
    }
    assert_eq!(running(sync.local()), before);

    // The other policies do what they do in the local layer.
    for policy in [SingleValue::Update, SingleValue::Skip, SingleValue::Running] {
        let config = config.single_value(policy);
        let mut sync = layer(rank, config);
        let mut local = config.build(&rank.gpu).unwrap();
        local.load_state(&sync.local().state().unwrap()).unwrap();
        let tensor = |values: &[f32]| {
            let shape = Shape::nc(values.len() / 3, 3);
            rank.gpu.tensor(shape, values).unwrap()
        };
        let whole = tensor(&values);
        let (y, saved) = local.train(&whole).unwrap();
        let (y, dx) = (y.read().unwrap(), local.backward(saved, &whole).unwrap().dx);
        let x = tensor(x);
        let (own, saved) = sync.train(&x).unwrap();
        let own = [own, sync.backward(saved, &x).unwrap().dx];
        let own = own.map(|tensor| tensor.read().unwrap());
        if rank.rank() == last {
            let close = Bound::new(1e-6, 1e-6);
            within("y", &own[0], &wide(&y), close).unwrap();
            within("dx", &own[1], &wide(&dx.read().unwrap()), close).unwrap();
        }
        let moved = running(sync.local());
        rank.same_everywhere("running", &moved);
        let bound = Bound::new(1e-6, 1e-7);
        within("running", &moved, &wide(&running(&local)), bound).unwrap();
    }

    if last > 0 {
        // Two values on one rank, and none, of another type, on the others.
        let dtype = if rank.rank() == 0 {
            Dtype::F32
        } else {
            Dtype::F16
        };
        let dims = [if rank.rank() == 0 { 2 } else { 0 }, 3];
        let some = problem(&dims, Layout::ChannelsFirst, dtype);
        let values = [1.0, 2.0, 3.0, 3.0, 2.0, 1.0];
        let x = &values[..3 * dims[0]];
        let (y, _saved) = sync.train(&rank.gpu.tensor(some, x).unwrap()).unwrap();
        assert_eq!(y.read().unwrap().len(), x.len());
        let moved = running(sync.local());
        rank.same_everywhere("running", &moved);
        assert!(moved != before && moved[6] == 1.0, "{moved:?}");
    }
}

/// Sums and means over ranks, added to earlier ones; dx alone, in place; parameters alone.
pub fn gradients_by_choice(rank: &Rank) {
    let samples = rank.uneven(2);
    let shards = Shards::images(5, &samples);
    let mut local = layer(rank, BatchNormConfig::new(3)).to_local();
    let x = rank.gpu.tensor(shards.whole, &shards.x).unwrap();
    let dy = rank.gpu.tensor(shards.whole, &shards.dy).unwrap();
    let (_, saved) = local.train(&x).unwrap();
    let whole = parts(&local.backward(saved, &dy).unwrap());
    let own = shards.part(rank.rank(), &whole[0]);
    let sums = Bound::new(1e-5, 1e-5);
    let problem = shards.problem(rank.rank());
    let part = shards.part(rank.rank(), &shards.dy);
    let dy = || rank.gpu.tensor(problem, part).unwrap();

    let scale = |by: f32| {
        wide(
            &whole[1..]
                .concat()
                .iter()
                .map(|v| v * by)
                .collect::<Vec<_>>(),
        )
    };
    for (reduction, share) in [
        (Reduction::Sum, 1.0),
        (Reduction::Mean, 1.0 / rank.size() as f32),
    ] {
        let mut sync = layer(rank, BatchNormConfig::new(3)).reduction(reduction);
        let [_, dx, dweight, dbias] = rank.step(&mut sync, &shards);
        within("dx", &dx, &wide(own), Bound::new(1e-5, 1e-5)).unwrap();
        let got = [dweight, dbias].concat();
        within("parameters", &got, &scale(share), sums).unwrap();
        rank.same_everywhere("parameters", &got);
        // Parameters alone, by an exchange of their own, and added to those of the pass before.
        let (_, saved) = rank.forward(&mut sync, &shards);
        let first = sync.backward(saved, &dy()).unwrap();
        let (_, saved) = rank.forward(&mut sync, &shards);
        let wanted = Wanted::default().dx(None).accumulate(first.buffer());
        let both = sync.backward_with(saved, &dy(), wanted).unwrap();
        assert!(both.dx.is_none());
        let got = [
            both.weight().unwrap().unwrap(),
            both.bias().unwrap().unwrap(),
        ]
        .concat();
        within("accumulated", &got, &scale(2.0 * share), sums).unwrap();
    }

    let mut sync = layer(rank, BatchNormConfig::new(3));
    let (_, saved) = rank.forward(&mut sync, &shards);
    let dy = dy();
    let wanted = Wanted::default()
        .dx(Some(Destination::InPlace))
        .parameters(false);
    let got = sync.backward_with(saved, &dy, wanted).unwrap();
    assert!(got.buffer().is_none());
    within(
        "dx",
        &dy.read().unwrap(),
        &wide(own),
        Bound::new(1e-5, 1e-5),
    )
    .unwrap();
    // Nothing is exchanged for a rank's own gradients of the parameters.
    let (_, saved) = rank.forward(&mut sync, &shards);
    if rank.rank() == 0 {
        let wanted = Wanted::default().dx(None);
        let dy = rank.gpu.tensor(problem, part).unwrap();
        let got = sync.backward_with(saved, &dy, wanted).unwrap();
        assert!(got.dx.is_none() && got.weight().unwrap().is_some());
    }
    // No gradient at all is an error on all ranks, which gives `saved` back.
    let (_, saved) = rank.forward(&mut sync, &shards);
    let nothing = Wanted::default().dx(None).parameters(false);
    let refused = sync.backward_with(saved, &dy, nothing).unwrap_err();
    assert!(matches!(refused.error, Error::Plan(_)), "{}", refused.error);
    let _ = rank.backward(&sync, &shards, *refused.saved);
}

pub fn a_group_of_one_is_the_local_layer(rank: &Rank) {
    let alone = Rank {
        group: rank.group.split(rank.rank() as u32).unwrap(),
        gpu: rank.gpu.clone(),
    };
    assert_eq!((alone.rank(), alone.size()), (0, 1));
    let shards = Shards::images(9, &[3]);
    let mut sync = layer(&alone, BatchNormConfig::new(3)).reduction(Reduction::Mean);
    let mut local = layer(&alone, BatchNormConfig::new(3)).to_local();
    for _ in 0..3 {
        let x = rank.gpu.tensor(shards.whole, &shards.x).unwrap();
        let dy = rank.gpu.tensor(shards.whole, &shards.dy).unwrap();
        let (y, saved) = local.train(&x).unwrap();
        let gradients = local.backward(saved, &dy).unwrap();
        let [dx, dweight, dbias] = parts(&gradients);
        let expected = [y.read().unwrap(), dx, dweight, dbias];
        assert_eq!(alone.step(&mut sync, &shards), expected);
    }
    assert_eq!(running(sync.local()), running(&local));
}
