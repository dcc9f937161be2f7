//! What torch's distributed tests do, and what its users do with several passes.

use wgpu_norm::reference::Moments;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Shape};

use super::rank::{Rank, Shards, running};

/// torch's `SyncBatchNorm_Diff_Input_Sizes_Running_Value`: rank i has 2 * 10^(i+1) constant values a channel, and after
/// 100 steps with momentum 0.99 the running statistics are those of all values.
pub fn running_values_of_uneven_ranks(rank: &Rank) {
    let values = |of: usize| -> (Vec<f32>, usize) {
        let power = |base: f32| base.powi(of as i32 - 1);
        let length = 10usize.pow(of as u32 + 1);
        let sample = [power(0.1), power(0.3)]
            .map(|value| vec![value; length])
            .concat();
        (sample.repeat(2), length)
    };
    let config = BatchNormConfig::new(2).momentum(Some(0.99));
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let (own, length) = values(rank.rank());
    let shape = Shape::ncl(2, 2, length);
    let x = rank.gpu.tensor(shape, &own).unwrap();
    // The gradient of the mean of y.
    let dy = vec![1.0 / own.len() as f32; own.len()];
    let dy = rank.gpu.tensor(shape, &dy).unwrap();
    for step in 0..100 {
        let (_, saved) = sync.train(&x).unwrap();
        if step % 10 == 0 {
            let _ = sync.backward(saved, &dy).unwrap();
        }
    }
    let mut expected = [Vec::new(), Vec::new()];
    for channel in 0..2 {
        let all = (0..rank.size()).flat_map(|of| {
            let (values, length) = values(of);
            let value = f64::from(values[channel * length]);
            std::iter::repeat_n(value, 2 * length)
        });
        let moments = Moments::of(all);
        expected[0].push(moments.mean);
        expected[1].push(moments.m2 / (moments.count - 1.0));
    }
    let moved = running(sync.local());
    within(
        "running",
        &moved[..4],
        &expected.concat(),
        Bound::new(2e-6, 1e-9),
    )
    .unwrap();
    rank.same_everywhere("running", &moved);
}

/// torch's `SyncBatchNorm_Single_Input_Per_Process`: one value a channel on each rank, which has no variance there.
pub fn one_sample_on_each_rank(rank: &Rank) {
    if rank.size() == 1 {
        return;
    }
    let config = BatchNormConfig::new(4);
    let mut sync = config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let samples = vec![1; rank.size()];
    let whole = Shape::nc(rank.size(), 4);
    let shards = Shards::new(whole.into(), 11, &samples, 0.5);
    let mut local = config.build(&rank.gpu).unwrap();
    for _ in 0..3 {
        let x = rank.gpu.tensor(whole, &shards.x).unwrap();
        let dy = rank.gpu.tensor(whole, &shards.dy).unwrap();
        let (y, saved) = local.train(&x).unwrap();
        let gradients = local.backward(saved, &dy).unwrap();
        let [got_y, got_dx, ..] = rank.step(&mut sync, &shards);
        let own = |values: Vec<f32>| -> Vec<f64> {
            let own = shards.part(rank.rank(), &values);
            own.iter().copied().map(f64::from).collect()
        };
        let close = Bound::new(1e-5, 1e-5);
        within("y", &got_y, &own(y.read().unwrap()), close).unwrap();
        within("dx", &got_dx, &own(gradients.dx.read().unwrap()), close).unwrap();
    }
    rank.same_everywhere("running", &running(sync.local()));
}

/// A GAN's discriminator sees real and generated samples before it goes back through either, on some ranks by fewer
/// samples than on others.
pub fn several_forwards_before_backward(rank: &Rank) {
    let config = BatchNormConfig::new(3);
    let layer = || config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let [real, fake] = [3, 4].map(|seed| Shards::images(seed, &rank.uneven(seed as usize - 1)));
    let (mut sync, mut one_by_one) = (layer(), layer());
    let expected = [&real, &fake].map(|shards| rank.step(&mut one_by_one, shards));
    let (real_y, real_saved) = rank.forward(&mut sync, &real);
    let (fake_y, fake_saved) = rank.forward(&mut sync, &fake);
    assert_eq!([&real_y, &fake_y], [&expected[0][0], &expected[1][0]]);
    let back = rank.backward(&sync, &fake, fake_saved);
    assert_eq!(back[..], expected[1][1..]);
    let back = rank.backward(&sync, &real, real_saved);
    assert_eq!(back[..], expected[0][1..]);
    assert_eq!(running(sync.local()), running(one_by_one.local()));
}

/// Two layers begin, other work is submitted, and both finish.
pub fn other_work_meanwhile(rank: &Rank) {
    let config = BatchNormConfig::new(3);
    let layer = || config.build(&rank.gpu).unwrap().to_sync(&rank.group);
    let (mut a, mut b, mut plain) = (layer(), layer(), layer());
    let shards = Shards::images(6, &rank.uneven(2));
    let (own, problem) = (rank.rank(), shards.problem(rank.rank()));
    let upload = |values: &[f32]| rank.gpu.tensor(problem, shards.part(own, values)).unwrap();
    let (x, dy) = (upload(&shards.x), upload(&shards.dy));
    let expected = rank.step(&mut plain, &shards);
    let pending = [a.begin_train(&x), b.begin_train(&x)];
    // Work that does not depend on the output.
    let meanwhile = a.eval(&x).unwrap();
    let [first, second] = pending;
    let (y, saved) = a.finish_train(first).unwrap();
    let (other, other_saved) = b.finish_train(second).unwrap();
    assert_eq!(y.read().unwrap(), expected[0]);
    assert_eq!(other.read().unwrap(), expected[0]);
    assert_eq!(meanwhile.read().unwrap().len(), x.read().unwrap().len());
    let pending = b.begin_backward(other_saved, &dy, Default::default());
    let gradients = a.backward(saved, &dy).unwrap();
    let other = b.finish_backward(pending).unwrap();
    assert_eq!(gradients.dx.read().unwrap(), expected[1]);
    assert_eq!(other.dx.unwrap().read().unwrap(), expected[1]);
}
