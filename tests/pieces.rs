//! BatchNorm over two halves of a batch, as two devices would hold them, made of its pieces.

use crate::common::{blank, download, gpu, noise, upload, wide};
use wgpu_norm::batch_norm::{
    ApplyBuffers, ApplyPlan, BackwardApplyBuffers, BackwardApplyPlan, BackwardCombineBuffers,
    BackwardCombinePlan, BackwardReduceBuffers, BackwardReducePlan, CombineBuffers, CombinePlan,
    Destination, Epilogue, FinalizeBuffers, FinalizePlan, PieceOptions, StatsBuffers, StatsPlan,
    Step,
};
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, BindError, Gpu, PlanError, Shape};

fn submit(gpu: &Gpu, steps: &[Step]) {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for step in steps {
        step.encode(&mut encoder);
    }
    gpu.queue().submit([encoder.finish()]);
}

/// As many as of a batch in parts of one value each, and more than a driver gives one invocation rounds for.
#[test]
fn many_parts_are_all_combined() {
    let gpu = gpu();
    let config = BatchNormConfig::new(1);
    let stride = gpu.kernels().caps().align(config.moment_rows().bytes()) as usize / 4;
    for count in [3u32, 262_141, 300_000] {
        let plan = match CombinePlan::new(gpu.kernels(), &config, count) {
            Ok(plan) => plan,
            // Adapters with groups of 4 lanes combine no more.
            Err(error) => {
                let most = matches!(error, PlanError::Unsupported { field: "parts", .. });
                assert!(most && count > 262_144, "{count}: {error}");
                continue;
            }
        };
        // Between the parts stands what no kernel may add.
        let mut values = vec![f32::NAN; plan.parts_bytes() as usize / 4];
        for (part, values) in values.chunks_mut(stride).enumerate() {
            // mean, mean_low, m2, count
            values[..4].copy_from_slice(&[(part % 2) as f32, 0.0, 0.0, 1.0]);
        }
        let (parts, moments) = (upload(&gpu, &values), blank(&gpu, plan.moments_bytes()));
        let step = plan
            .bind(&CombineBuffers::new(parts.slice(..), moments.slice(..)))
            .unwrap();
        submit(&gpu, &[step]);
        let (n, ones) = (f64::from(count), f64::from(count / 2));
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
    let finalize = FinalizePlan::new(kernels, &config, 1).unwrap();
    let parts = blank(&gpu, combine.parts_bytes());
    let stride = gpu.kernels().caps().align(config.moment_rows().bytes());
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
            .bind(&StatsBuffers::new(x.slice(..), own.slice(..)).scratch(scratch.slice(..)))
            .unwrap();
        submit(&gpu, &[step]);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let bytes = plan.moments_bytes();
        encoder.copy_buffer_to_buffer(&own, 0, &parts, index as u64 * stride, bytes);
        gpu.queue().submit([encoder.finish()]);
    }
    let combined = combine
        .bind(&CombineBuffers::new(parts.slice(..), moments.slice(..)))
        .unwrap();
    let finalized = finalize
        .bind(&FinalizeBuffers::new(moments.slice(..), saved.slice(..)).running(running.slice(..)))
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
        let plan = ApplyPlan::with_options(
            kernels,
            *shape,
            &config,
            PieceOptions::default().destination(Destination::OutOfPlace),
        )
        .unwrap();
        let out = blank(&gpu, plan.activation_bytes());
        let step = plan
            .bind(
                &ApplyBuffers::new(x.slice(..), saved.slice(..))
                    .y(out.slice(..))
                    .affine(affine.slice(..)),
            )
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
            .bind(
                &BackwardReduceBuffers::new(
                    x.slice(..),
                    dy.slice(..),
                    saved.slice(..),
                    own.slice(..),
                )
                .affine(affine.slice(..))
                .scratch(scratch.slice(..)),
            )
            .unwrap();
        submit(&gpu, &[step]);
        total
            .iter_mut()
            .zip(download(&gpu, &own, 18))
            .for_each(|(total, own)| *total += own);
    }
    let sums_bound = Bound::new(1e-5, 1e-4);
    within("dweight", &total[..6], &gradients.dweight, sums_bound).unwrap();
    within("dbias", &total[6..12], &gradients.dbias, sums_bound).unwrap();
    assert_eq!(total[12..], [100.0; 6]);
    let sums = upload(&gpu, &total);
    let mut dx = Vec::new();
    for ((shape, x), dy) in halves.iter().zip(&inputs).zip(&dys) {
        let plan = BackwardApplyPlan::with_options(
            kernels,
            *shape,
            &config,
            PieceOptions::default().destination(Destination::InPlace),
        )
        .unwrap();
        let step = plan
            .bind(
                &BackwardApplyBuffers::new(
                    x.slice(..),
                    dy.slice(..),
                    saved.slice(..),
                    sums.slice(..),
                )
                .affine(affine.slice(..)),
            )
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
        .bind(&StatsBuffers::new(x.slice(..), moments.slice(..)).scratch(scratch.slice(..)))
        .unwrap();
    let running = upload(&gpu, &config.initial_running());
    let saved = upload(&gpu, &[7f32; 9]);
    let finalize = FinalizePlan::new(kernels, &config, 1).unwrap();
    let finalize = finalize
        .bind(&FinalizeBuffers::new(moments.slice(..), saved.slice(..)).running(running.slice(..)))
        .unwrap();
    submit(&gpu, &[stats, finalize]);
    assert_eq!(download(&gpu, &moments, 12), [0.0; 12]);
    assert_eq!(download(&gpu, &saved, 9), [7.0; 9]);
    let rows: Vec<u32> = download(&gpu, &running, 12)
        .iter()
        .map(|v| v.to_bits())
        .collect();
    assert_eq!(rows, config.initial_running());
}

/// Memory of which part `p` has a slice, at the distance that the pieces' documentation gives.
struct Parts {
    buffer: wgpu::Buffer,
    stride: u64,
    bytes: u64,
}

impl Parts {
    fn new(gpu: &Gpu, bytes: u64, needed: u64) -> Self {
        // Between the parts stands what no kernel may read.
        let buffer = upload(gpu, &vec![f32::NAN; needed as usize / 4]);
        let stride = gpu.kernels().caps().align(bytes);
        Self {
            buffer,
            stride,
            bytes,
        }
    }

    fn slice(&self, part: usize) -> wgpu::BufferSlice<'_> {
        let begin = part as u64 * self.stride;
        self.buffer.slice(begin..begin + self.bytes)
    }
}

#[test]
fn pieces_write_their_parts_where_they_are_combined() {
    let gpu = gpu();
    let kernels = gpu.kernels();
    // One part has no values, and no two others have as many.
    let samples = [3, 0, 1, 2];
    let count = samples.len() as u32;
    for (with, epilogue) in [
        (
            (|n| Shape::nchw(n, 6, 4, 5)) as fn(usize) -> Shape,
            Epilogue::Identity,
        ),
        (|n| Shape::nhwc(n, 3, 3, 6), Epilogue::Relu),
    ] {
        let config = BatchNormConfig::new(6).epilogue(epilogue);
        let whole = with(samples.iter().sum());
        let values = whole.values_per_channel().unwrap();
        let len = whole.elements().unwrap();
        let x: Vec<f32> = noise(1, len).iter().map(|v| 30.0 + v).collect();
        let dy = noise(2, len);
        let affine: Vec<f32> = noise(3, 12).iter().map(|v| v + 1.5).collect();
        let (weight, bias) = (wide(&affine[..6]), wide(&affine[6..]));
        let eps = f64::from(config.eps);
        let mut expected = oracle::train(whole, &wide(&x), Some(&weight), Some(&bias), eps);
        let mut g = wide(&dy);
        if epilogue == Epilogue::Relu {
            g.iter_mut()
                .zip(&expected.y)
                .for_each(|(g, &y)| *g *= f64::from(y > 0.0));
            expected.y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        let gradients = oracle::backward(whole, &wide(&x), &g, Some(&weight), eps);
        let mut moved = Running::new(6);
        moved.update(
            &expected,
            values as u64,
            config.momentum.share().map(f64::from),
        );

        // Each part's values, in memory of their own.
        let mut begin = 0;
        let parts = samples.map(|n| {
            let shape = with(n);
            let range = begin..begin + shape.elements().unwrap();
            begin = range.end;
            let mut padded = [&x[range.clone()], &dy[range]].map(<[f32]>::to_vec);
            padded
                .iter_mut()
                .for_each(|values| values.resize(values.len().next_multiple_of(4).max(4), 0.0));
            let [x, dy] = padded.map(|values| upload(&gpu, &values));
            (shape, x, dy)
        });
        let affine = upload(&gpu, &affine);
        let running = upload(&gpu, &config.initial_running());

        // Forward: moments into slices of one buffer, combined by two pieces.
        let combine = CombinePlan::new(kernels, &config, count).unwrap();
        let finalize = FinalizePlan::new(kernels, &config, count).unwrap();
        let rows = config.moment_rows();
        assert_eq!(combine.parts_bytes(), finalize.parts_bytes());
        let moments = Parts::new(&gpu, rows.bytes(), combine.parts_bytes());
        let mut steps = Vec::new();
        for (part, (shape, x, _)) in parts.iter().enumerate() {
            let plan = StatsPlan::new(kernels, *shape, &config).unwrap();
            assert_eq!(plan.moments_bytes(), rows.bytes());
            let scratch = blank(&gpu, plan.scratch_bytes());
            let buffers = StatsBuffers::new(x.slice(..), moments.slice(part));
            steps.push(plan.bind(&buffers.scratch(scratch.slice(..))).unwrap());
        }
        let total = blank(&gpu, combine.moments_bytes());
        let saved = blank(&gpu, finalize.saved_bytes());
        let buffers = CombineBuffers::new(moments.buffer.slice(..), total.slice(..));
        steps.push(combine.bind(&buffers).unwrap());
        let buffers = FinalizeBuffers::new(moments.buffer.slice(..), saved.slice(..));
        steps.push(finalize.bind(&buffers.running(running.slice(..))).unwrap());
        submit(&gpu, &steps);
        let close = Bound::new(4e-6, 4e-6);
        let row = |buffer: &wgpu::Buffer, row: std::ops::Range<u64>| {
            gpu.read_f32(buffer.slice(row)).unwrap()
        };
        let m2: Vec<f64> = expected.var.iter().map(|var| var * values as f64).collect();
        let saved_rows = config.saved_rows();
        let running_rows = config.running_rows().unwrap();
        for (name, actual, expected) in [
            ("mean", row(&total, rows.mean), &expected.mean),
            ("m2", row(&total, rows.m2), &m2),
            ("count", row(&total, rows.count), &vec![values as f64; 6]),
            ("saved mean", row(&saved, saved_rows.mean), &expected.mean),
            (
                "inv_std",
                row(&saved, saved_rows.inv_std),
                &expected.inv_std,
            ),
            (
                "running_mean",
                row(&running, running_rows.mean),
                &moved.mean,
            ),
            ("running_var", row(&running, running_rows.var), &moved.var),
        ] {
            within(name, &actual, expected, close).unwrap();
        }
        let counters = row(&running, running_rows.num_batches_tracked);
        assert!(counters.iter().all(|counter| counter.to_bits() == 1));

        let mut y = Vec::new();
        for (shape, x, _) in &parts {
            let plan = ApplyPlan::new(kernels, *shape, &config).unwrap();
            let out = blank(&gpu, plan.activation_bytes());
            let buffers = ApplyBuffers::new(x.slice(..), saved.slice(..)).y(out.slice(..));
            submit(
                &gpu,
                &[plan.bind(&buffers.affine(affine.slice(..))).unwrap()],
            );
            y.extend(download(&gpu, &out, shape.elements().unwrap()));
        }
        within("y", &y, &expected.y, Bound::new(1e-5, 1e-5)).unwrap();

        // Backward: sums into slices of one buffer, added by a piece.
        let rows = config.sum_rows();
        let combine = BackwardCombinePlan::new(kernels, &config, count).unwrap();
        let sums = Parts::new(&gpu, rows.bytes(), combine.parts_bytes());
        let mut steps = Vec::new();
        for (part, (shape, x, dy)) in parts.iter().enumerate() {
            let plan = BackwardReducePlan::new(kernels, *shape, &config).unwrap();
            assert_eq!(plan.sums_bytes(), rows.bytes());
            let scratch = blank(&gpu, plan.scratch_bytes());
            let buffers = BackwardReduceBuffers::new(
                x.slice(..),
                dy.slice(..),
                saved.slice(..),
                sums.slice(part),
            );
            let buffers = buffers.affine(affine.slice(..)).scratch(scratch.slice(..));
            steps.push(plan.bind(&buffers).unwrap());
        }
        let total = blank(&gpu, combine.sums_bytes());
        let buffers = BackwardCombineBuffers::new(sums.buffer.slice(..), total.slice(..));
        steps.push(combine.bind(&buffers).unwrap());
        submit(&gpu, &steps);
        for (name, actual, expected) in [
            ("dweight", row(&total, rows.dweight), &gradients.dweight),
            ("dbias", row(&total, rows.dbias), &gradients.dbias),
            ("count", row(&total, rows.count), &vec![values as f64; 6]),
        ] {
            within(name, &actual, expected, Bound::new(1e-5, 1e-4)).unwrap();
        }
        let mut dx = Vec::new();
        for (shape, x, dy) in &parts {
            let plan = BackwardApplyPlan::new(kernels, *shape, &config).unwrap();
            let out = blank(&gpu, plan.activation_bytes());
            let buffers = BackwardApplyBuffers::new(
                x.slice(..),
                dy.slice(..),
                saved.slice(..),
                total.slice(..),
            );
            let buffers = buffers.affine(affine.slice(..)).dx(out.slice(..));
            submit(&gpu, &[plan.bind(&buffers).unwrap()]);
            dx.extend(download(&gpu, &out, shape.elements().unwrap()));
        }
        within("dx", &dx, &gradients.dx, Bound::new(1e-5, 1e-5)).unwrap();
    }
}

/// Parts that end short of where the last ends, and parts that are not where a slice may begin.
#[test]
fn parts_have_a_distance() {
    let gpu = gpu();
    let config = BatchNormConfig::new(3);
    let caps = gpu.kernels().caps();
    let (moments, sums) = (config.moment_rows().bytes(), config.sum_rows().bytes());
    assert_eq!((moments, sums), (48, 36));
    for count in [1u32, 2, 5] {
        let combine = CombinePlan::new(gpu.kernels(), &config, count).unwrap();
        let backward = BackwardCombinePlan::new(gpu.kernels(), &config, count).unwrap();
        let gaps = u64::from(count - 1);
        assert_eq!(combine.parts_bytes(), gaps * caps.align(moments) + moments);
        assert_eq!(backward.parts_bytes(), gaps * caps.align(sums) + sums);
        let (short, total) = (blank(&gpu, 4096), blank(&gpu, moments));
        let needed = combine.parts_bytes();
        let buffers = CombineBuffers::new(short.slice(..needed - 4), total.slice(..));
        let error = combine.bind(&buffers).map(drop).unwrap_err();
        let expected = BindError::TooSmall {
            field: "parts",
            needed,
            got: needed - 4,
        };
        assert_eq!(error, expected);
    }
    let shape = Shape::nc(4, 3);
    let plan = StatsPlan::new(gpu.kernels(), shape, &config).unwrap();
    let (x, parts) = (upload(&gpu, &noise(1, 12)), blank(&gpu, 4096));
    let scratch = blank(&gpu, plan.scratch_bytes());
    let buffers = StatsBuffers::new(x.slice(..), parts.slice(moments..2 * moments));
    let error = plan.bind(&buffers.scratch(scratch.slice(..))).map(drop);
    let crooked = matches!(
        error,
        Err(BindError::Misaligned {
            field: "moments",
            ..
        })
    );
    assert!(
        crooked || moments % caps.storage_alignment == 0,
        "{error:?}"
    );
}
