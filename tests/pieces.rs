//! BatchNorm over two halves of a batch, as two devices would hold them, made of its pieces.

#[allow(dead_code)]
mod common;

use common::{blank, download, gpu, noise, upload, wide};
use wgpu_norm::batch_norm::{
    ApplyBuffers, ApplyPlan, BackwardApplyBuffers, BackwardApplyPlan, BackwardReduceBuffers,
    BackwardReducePlan, CombineBuffers, CombinePlan, Destination, FinalizeBuffers, FinalizePlan,
    StatsBuffers, StatsPlan, Step,
};
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Gpu, Shape};

fn submit(gpu: &Gpu, steps: &[Step]) {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for step in steps {
        step.encode(&mut encoder);
    }
    gpu.queue().submit([encoder.finish()]);
}

/// As many as of a batch in parts of one value each, and more than a driver gives one invocation rounds for.
#[test]
fn many_sets_are_all_combined() {
    let gpu = gpu();
    let config = BatchNormConfig::new(1);
    for sets in [3u32, 262_141, 300_000] {
        let plan = CombinePlan::new(gpu.kernels(), &config, sets).unwrap();
        // mean, residual, m2, count
        let values: Vec<f32> = (0..sets)
            .flat_map(|set| [(set % 2) as f32, 0.0, 0.0, 1.0])
            .collect();
        let (parts, moments) = (upload(&gpu, &values), blank(&gpu, plan.moments_bytes()));
        let step = plan
            .bind(&CombineBuffers {
                sets: parts.slice(..),
                moments: moments.slice(..),
            })
            .unwrap();
        submit(&gpu, &[step]);
        let (n, ones) = (f64::from(sets), f64::from(sets / 2));
        let mean = ones / n;
        let expected = [mean, 0.0, n * mean * (1.0 - mean), n];
        let bound = Bound::new(1e-5, 1e-6);
        within("moments", &download(&gpu, &moments, 4), &expected, bound).unwrap();
    }
}

#[test]
fn two_halves_are_normalized_as_one_batch() {
    let gpu = gpu();
    let kernels = gpu.kernels();
    // Halves of different size, which have different counts.
    let (whole, halves) = (
        Shape::nchw(5, 6, 4, 5),
        [Shape::nchw(3, 6, 4, 5), Shape::nchw(2, 6, 4, 5)],
    );
    let config = BatchNormConfig::new(6);
    let cut = halves[0].elements().unwrap();
    // A mean that f32 would feel.
    let x: Vec<f32> = noise(1, whole.elements().unwrap())
        .into_iter()
        .map(|v| 300.0 + v)
        .collect();
    let dy = noise(2, x.len());
    let (xs, dys) = (x.split_at(cut), dy.split_at(cut));
    let (xs, dys) = ([xs.0, xs.1], [dys.0, dys.1]);

    let affine = upload(&gpu, &config.initial_affine());
    let running = upload(&gpu, &config.initial_running());
    let combine = CombinePlan::new(kernels, &config, 2).unwrap();
    let finalize = FinalizePlan::new(kernels, &config).unwrap();
    let sets = blank(&gpu, combine.sets_bytes());
    let moments = blank(&gpu, combine.moments_bytes());
    let saved = blank(&gpu, finalize.saved_bytes());

    // Forward: each half's moments, exchanged, combined, and applied to each half.
    let inputs = xs.map(|x| upload(&gpu, x));
    for (index, (shape, x)) in halves.iter().zip(&inputs).enumerate() {
        let plan = StatsPlan::new(kernels, *shape, &config).unwrap();
        let (own, scratch) = (
            blank(&gpu, plan.moments_bytes()),
            blank(&gpu, plan.scratch_bytes()),
        );
        let step = plan
            .bind(&StatsBuffers {
                x: x.slice(..),
                moments: own.slice(..),
                scratch: Some(scratch.slice(..)),
            })
            .unwrap();
        submit(&gpu, &[step]);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let bytes = plan.moments_bytes();
        encoder.copy_buffer_to_buffer(&own, 0, &sets, index as u64 * bytes, bytes);
        gpu.queue().submit([encoder.finish()]);
    }
    let combined = combine
        .bind(&CombineBuffers {
            sets: sets.slice(..),
            moments: moments.slice(..),
        })
        .unwrap();
    let finalized = finalize
        .bind(&FinalizeBuffers {
            moments: moments.slice(..),
            running: Some(running.slice(..)),
            saved: saved.slice(..),
        })
        .unwrap();
    submit(&gpu, &[combined, finalized]);

    let eps = f64::from(config.eps);
    let expected = oracle::train(whole, &wide(&x), None, None, eps);
    let gradients = oracle::backward(whole, &wide(&x), &wide(&dy), None, eps);
    let mut moved = Running::new(6);
    moved.update(&expected, 100, Some(f64::from(0.1f32)));
    let f32s = Bound::new(4e-6, 4e-6);
    let rows = download(&gpu, &running, 18);
    within("running_mean", &rows[..6], &moved.mean, f32s).unwrap();
    within("running_var", &rows[6..12], &moved.var, f32s).unwrap();
    let mut y = Vec::new();
    for (shape, x) in halves.iter().zip(&inputs) {
        let plan = ApplyPlan::new(kernels, *shape, &config, Destination::Apart).unwrap();
        let out = blank(&gpu, plan.activation_bytes());
        let step = plan
            .bind(&ApplyBuffers {
                x: x.slice(..),
                y: Some(out.slice(..)),
                residual: None,
                affine: Some(affine.slice(..)),
                saved: saved.slice(..),
            })
            .unwrap();
        submit(&gpu, &[step]);
        y.extend(download(&gpu, &out, shape.elements().unwrap()));
    }
    within("y", &y, &expected.y, f32s).unwrap();

    // Backward: each half's sums, added up, and applied to each half.
    let dys = dys.map(|dy| upload(&gpu, dy));
    let mut total = vec![0f32; 18];
    for ((shape, x), dy) in halves.iter().zip(&inputs).zip(&dys) {
        let plan = BackwardReducePlan::new(kernels, *shape, &config).unwrap();
        let (own, scratch) = (
            blank(&gpu, plan.sums_bytes()),
            blank(&gpu, plan.scratch_bytes()),
        );
        let step = plan
            .bind(&BackwardReduceBuffers {
                x: x.slice(..),
                dy: dy.slice(..),
                statistics: saved.slice(..),
                affine: Some(affine.slice(..)),
                output: None,
                dresidual: None,
                sums: own.slice(..),
                scratch: Some(scratch.slice(..)),
            })
            .unwrap();
        submit(&gpu, &[step]);
        total
            .iter_mut()
            .zip(download(&gpu, &own, 18))
            .for_each(|(total, own)| *total += own);
    }
    let sums_bound = Bound::new(1e-5, 1e-4);
    within("dbias", &total[..6], &gradients.dbias, sums_bound).unwrap();
    within("dweight", &total[6..12], &gradients.dweight, sums_bound).unwrap();
    assert_eq!(total[12..], [100.0; 6]);
    let sums = upload(&gpu, &total);
    let mut dx = Vec::new();
    for ((shape, x), dy) in halves.iter().zip(&inputs).zip(&dys) {
        let plan = BackwardApplyPlan::new(kernels, *shape, &config, Destination::InPlace).unwrap();
        let step = plan
            .bind(&BackwardApplyBuffers {
                x: x.slice(..),
                dy: dy.slice(..),
                dx: None,
                statistics: saved.slice(..),
                affine: Some(affine.slice(..)),
                dresidual: None,
                sums: sums.slice(..),
            })
            .unwrap();
        submit(&gpu, &[step]);
        dx.extend(download(&gpu, dy, shape.elements().unwrap()));
    }
    within("dx", &dx, &gradients.dx, Bound::new(1e-5, 1e-5)).unwrap();
}

#[test]
fn parts_without_values_change_nothing() {
    let gpu = gpu();
    let kernels = gpu.kernels();
    let config = BatchNormConfig::new(3);
    let plan = StatsPlan::new(kernels, Shape::nc(0, 3), &config).unwrap();
    let (x, moments) = (blank(&gpu, 16), upload(&gpu, &[9f32; 12]));
    let scratch = blank(&gpu, plan.scratch_bytes());
    let stats = plan
        .bind(&StatsBuffers {
            x: x.slice(..),
            moments: moments.slice(..),
            scratch: Some(scratch.slice(..)),
        })
        .unwrap();
    let running = upload(&gpu, &config.initial_running());
    let saved = upload(&gpu, &[7f32; 9]);
    let finalize = FinalizePlan::new(kernels, &config).unwrap();
    let finalize = finalize
        .bind(&FinalizeBuffers {
            moments: moments.slice(..),
            running: Some(running.slice(..)),
            saved: saved.slice(..),
        })
        .unwrap();
    submit(&gpu, &[stats, finalize]);
    assert_eq!(download(&gpu, &moments, 12), [0.0; 12]);
    assert_eq!(download(&gpu, &saved, 9), [7.0; 9]);
    let rows: Vec<u32> = download(&gpu, &running, 9)
        .iter()
        .map(|v| v.to_bits())
        .collect();
    assert_eq!(rows, config.initial_running());
}
