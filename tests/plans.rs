//! Plans, as a guest in somebody's encoder.

use crate::common::{blank, download, gpu, gpu_with, noise, upload, wide};
use wgpu_norm::batch_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, EvalBuffers, EvalPlan, Step, Strategy, Tile,
    TrainBuffers, TrainOptions, TrainPlan, Tuning,
};
use wgpu_norm::reference::batch_norm::{self as oracle, Running};
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNormConfig, Form, Gpu, Kernels, PlanError, Shape};

const F32: Bound = Bound::new(4e-6, 4e-6);

/// A training step with its buffers.
struct BoundStep {
    step: Step,
    y: wgpu::Buffer,
    running: wgpu::Buffer,
    saved: wgpu::Buffer,
}

fn bind(gpu: &Gpu, shape: Shape, config: &BatchNormConfig, x: &[f32], tuning: Tuning) -> BoundStep {
    let plan = TrainPlan::with_options(
        gpu.kernels(),
        shape,
        config,
        TrainOptions::default().tuning(tuning),
    )
    .unwrap();
    let mut padded = x.to_vec();
    padded.resize(plan.activation_bytes() as usize / 4, f32::NAN);
    let x = upload(gpu, &padded);
    let y = blank(gpu, plan.activation_bytes());
    let affine = upload(gpu, &config.initial_affine());
    let running = upload(gpu, &config.initial_running());
    let saved = blank(gpu, plan.saved_bytes());
    let scratch = blank(gpu, plan.scratch_bytes());
    let step = plan
        .bind(
            &TrainBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
                .affine(affine.slice(..))
                .running(running.slice(..))
                .scratch(scratch.slice(..)),
        )
        .unwrap();
    BoundStep {
        step,
        y,
        running,
        saved,
    }
}

#[test]
fn plans_of_different_shape_share_an_encoder() {
    let gpu = gpu();
    let shapes = [
        Shape::nchw(4, 3, 9, 9),
        Shape::nc(17, 64),
        Shape::nhwc(2, 5, 5, 32),
        Shape::ncl(2, 40, 64),
    ];
    let bound: Vec<_> = shapes
        .iter()
        .enumerate()
        .map(|(seed, &shape)| {
            let x = noise(seed as u64, shape.elements().unwrap());
            let config = BatchNormConfig::new(shape.channels());
            (
                shape,
                x.clone(),
                bind(&gpu, shape, &config, &x, Tuning::default()),
            )
        })
        .collect();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for (_, _, bound) in &bound[..2] {
        bound.step.encode(&mut encoder);
    }
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (_, _, bound) in &bound[2..] {
            bound.step.record(&mut pass);
        }
    }
    gpu.queue().submit([encoder.finish()]);
    for (shape, x, bound) in &bound {
        let y = download(&gpu, &bound.y, x.len());
        let expected = oracle::train(*shape, &wide(x), None, None, f64::from(1e-5f32)).y;
        within(&shape.to_string(), &y, &expected, F32).unwrap();
    }
}

#[test]
fn a_step_replayed_a_thousand_times_moves_the_running_statistics_a_thousand_times() {
    let gpu = gpu();
    let shape = Shape::nchw(2, 5, 6, 6);
    let x = noise(3, shape.elements().unwrap());
    let forward = oracle::train(shape, &wide(&x), None, None, f64::from(1e-5f32));
    for momentum in [Some(0.01), None] {
        for &strategy in Strategy::ALL {
            let config = BatchNormConfig::new(5).momentum(momentum);
            let tuning = Tuning::default().strategy(Some(strategy));
            let bound = bind(&gpu, shape, &config, &x, tuning);
            for _ in 0..10 {
                let mut encoder = gpu.device().create_command_encoder(&Default::default());
                for _ in 0..100 {
                    bound.step.encode(&mut encoder);
                }
                gpu.queue().submit([encoder.finish()]);
            }
            let mut expected = Running::new(5);
            for _ in 0..1000 {
                expected.update(&forward, 72, momentum.map(f64::from));
            }
            let running = download(&gpu, &bound.running, 15);
            let bound = Bound::new(1e-4, 1e-5);
            within("running_mean", &running[..5], &expected.mean, bound).unwrap();
            within("running_var", &running[5..10], &expected.var, bound).unwrap();
            let counters: Vec<u32> = running[10..].iter().map(|v| v.to_bits()).collect();
            assert_eq!(counters, [1000; 5]);
        }
    }
}

#[test]
fn forward_and_backward_follow_each_other_in_one_pass() {
    let gpu = gpu();
    let shape = Shape::nhwc(3, 7, 5, 12);
    let config = BatchNormConfig::new(12);
    let count = shape.elements().unwrap();
    let x = noise(1, count);
    let train = bind(&gpu, shape, &config, &x, Tuning::default());
    let plan = BackwardPlan::new(gpu.kernels(), shape, &config).unwrap();
    let x_buffer = upload(&gpu, &x);
    let dx = blank(&gpu, plan.activation_bytes());
    let grads = blank(&gpu, plan.grads_bytes());
    let affine = upload(&gpu, &config.initial_affine());
    let scratch = blank(&gpu, plan.scratch_bytes());
    // The gradient of sum(y * y) / 2 is y.
    let backward = plan
        .bind(
            &BackwardBuffers::new(x_buffer.slice(..), train.y.slice(..))
                .dx(dx.slice(..))
                .saved(train.saved.slice(..))
                .affine(affine.slice(..))
                .grads(grads.slice(..))
                .scratch(scratch.slice(..)),
        )
        .unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        train.step.record(&mut pass);
        backward.record(&mut pass);
    }
    gpu.queue().submit([encoder.finish()]);
    let eps = f64::from(config.eps);
    let forward = oracle::train(shape, &wide(&x), None, None, eps);
    let expected = oracle::backward(shape, &wide(&x), &forward.y, None, eps);
    within(
        "dx",
        &download(&gpu, &dx, count),
        &expected.dx,
        Bound::new(4e-6, 2e-5),
    )
    .unwrap();
    let grads = download(&gpu, &grads, 24);
    within(
        "dweight",
        &grads[..12],
        &expected.dweight,
        Bound::new(1e-5, 1e-4),
    )
    .unwrap();
    within(
        "dbias",
        &grads[12..],
        &expected.dbias,
        Bound::new(0.0, 1e-4),
    )
    .unwrap();
}

#[test]
fn all_buffers_may_be_slices_of_few() {
    let gpu = gpu();
    let (shape, config) = (Shape::nc(6, 4), BatchNormConfig::new(4));
    let plan = EvalPlan::new(gpu.kernels(), shape, &config).unwrap();
    // What is read stands in one buffer, 256 bytes apart; what is written in another.
    let mut read = vec![0f32; 192];
    read[..24].copy_from_slice(&noise(1, 24));
    read[64..72].copy_from_slice(&config.initial_affine());
    let running: Vec<f32> = config
        .initial_running()
        .into_iter()
        .map(f32::from_bits)
        .collect();
    read[128..144].copy_from_slice(&running);
    let read = upload(&gpu, &read);
    let y = blank(&gpu, plan.activation_bytes());
    let step = plan
        .bind(
            &EvalBuffers::new(read.slice(0..96))
                .y(y.slice(..))
                .affine(read.slice(256..288))
                .running(read.slice(512..576)),
        )
        .unwrap();
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    step.encode(&mut encoder);
    gpu.queue().submit([encoder.finish()]);
    let expected = oracle::eval(
        shape,
        &wide(&noise(1, 24)),
        &Running::new(4),
        None,
        None,
        f64::from(config.eps),
    );
    within("y", &download(&gpu, &y, 24), &expected, F32).unwrap();
}

#[test]
fn grids_above_the_limit_of_one_dimension_are_folded() {
    let gpu = gpu_with(|limits| limits.max_compute_workgroups_per_dimension = 64);
    let channels = 1501;
    let shape = Shape::ncl(2, channels, 4);
    let config = BatchNormConfig::new(channels);
    let x = noise(5, shape.elements().unwrap());
    let expected = oracle::train(shape, &wide(&x), None, None, f64::from(1e-5f32)).y;
    for &strategy in Strategy::ALL {
        let tuning = Tuning::default().strategy(Some(strategy));
        let plan = TrainPlan::with_options(
            gpu.kernels(),
            shape,
            &config,
            TrainOptions::default().tuning(tuning),
        )
        .unwrap();
        assert!(
            plan.launches(Form::default())
                .iter()
                .any(|launch| launch.grid[1] > 1)
        );
        let bound = bind(&gpu, shape, &config, &x, tuning);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        bound.step.encode(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
        let y = download(&gpu, &bound.y, x.len());
        within("y", &y, &expected, Bound::new(1e-5, 1e-5)).unwrap();
    }
}

/// Drivers that end loops after so many rounds do so without a word. Whatever walk a plan takes must come to its end.
#[test]
fn the_longest_walks_leave_nothing_out() {
    let gpu = gpu();
    let channels = 32;
    let (config, eps) = (BatchNormConfig::new(channels), f64::from(1e-5f32));
    let (mut taken, mut refused) = (0, 0);
    for n in [16_384, 16_385, 32_768, 65_536] {
        let shape = Shape::nc(n, channels);
        let (x, dy) = (noise(1, n * channels), noise(2, n * channels));
        let y = oracle::train(shape, &wide(&x), None, None, eps).y;
        let dx = oracle::backward(shape, &wide(&x), &wide(&dy), None, eps).dx;
        for (columns, strategy) in [
            (1, Strategy::Reread),
            (2, Strategy::Reread),
            (8, Strategy::Reread),
            (8, Strategy::Split),
        ] {
            let tuning = Tuning::default()
                .strategy(Some(strategy))
                .tile(Some(Tile::new(1, 1).columns(columns)));
            if let Err(error) = TrainPlan::with_options(
                gpu.kernels(),
                shape,
                &config,
                TrainOptions::default().tuning(tuning),
            ) {
                assert!(matches!(error, PlanError::Strategy { .. }), "{error}");
                refused += 1;
                continue;
            }
            taken += 1;
            let forward = bind(&gpu, shape, &config, &x, tuning);
            let options = BackwardOptions::default().tuning(tuning);
            let plan = BackwardPlan::with_options(gpu.kernels(), shape, &config, options).unwrap();
            let [x, dy] = [&x, &dy].map(|values| upload(&gpu, values));
            let out = blank(&gpu, plan.activation_bytes());
            let affine = upload(&gpu, &config.initial_affine());
            let grads = blank(&gpu, plan.grads_bytes());
            let scratch = blank(&gpu, plan.scratch_bytes());
            let backward = plan
                .bind(
                    &BackwardBuffers::new(x.slice(..), dy.slice(..))
                        .dx(out.slice(..))
                        .saved(forward.saved.slice(..))
                        .affine(affine.slice(..))
                        .grads(grads.slice(..))
                        .scratch(scratch.slice(..)),
                )
                .unwrap();
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            forward.step.encode(&mut encoder);
            backward.encode(&mut encoder);
            gpu.queue().submit([encoder.finish()]);
            let bound = Bound::new(1e-5, 1e-5);
            within("y", &download(&gpu, &forward.y, y.len()), &y, bound)
                .unwrap_or_else(|error| panic!("{shape} {tuning:?}: {error}"));
            within("dx", &download(&gpu, &out, dx.len()), &dx, bound)
                .unwrap_or_else(|error| panic!("{shape} {tuning:?}: {error}"));
        }
    }
    assert!(taken > 4 && refused > 0, "{taken} taken, {refused} refused");
}

/// On a device that binds few bytes at once. Windows end between planes and within them.
#[test]
fn tensors_above_the_binding_limit_are_taken_in_windows() {
    let shape = Shape::ncl(3, 2, 47_104);
    let elements = shape.elements().unwrap();
    let (x, dy, eps) = (noise(1, elements), noise(2, elements), f64::from(1e-5f32));
    let forward = oracle::train(shape, &wide(&x), None, None, eps).y;
    let backward = oracle::backward(shape, &wide(&x), &wide(&dy), None, eps);
    for (limit, windows) in [(1 << 20, 2), (188_416, 6), (1 << 16, 18)] {
        let gpu = gpu_with(|limits| limits.max_storage_buffer_binding_size = limit);
        assert_eq!(gpu.kernels().caps().max_binding, limit);
        let config = BatchNormConfig::new(2);
        let plan = TrainPlan::new(gpu.kernels(), shape, &config).unwrap();
        let stats = plan
            .launches(Form::default())
            .iter()
            .filter(|launch| launch.entry_point == "stats")
            .count();
        assert_eq!(stats, windows, "{limit}");

        let mut bn = config.build(&gpu).unwrap();
        let (y, saved) = bn.train(&gpu.tensor(shape, &x).unwrap()).unwrap();
        let dy = gpu.tensor(shape, &dy).unwrap();
        let gradients = bn.backward(saved, &dy).unwrap();
        let [dweight, dbias] =
            [gradients.weight(), gradients.bias()].map(|row| row.unwrap().unwrap());
        let sums = Bound::new(1e-4, 1e-2);
        for (name, actual, expected, bound) in [
            ("y", y.read().unwrap(), &forward, F32),
            ("dx", gradients.dx.read().unwrap(), &backward.dx, F32),
            ("dweight", dweight, &backward.dweight, sums),
            ("dbias", dbias, &backward.dbias, sums),
        ] {
            within(name, &actual, expected, bound)
                .unwrap_or_else(|error| panic!("{windows} windows: {error}"));
        }
    }
}

/// A profiler's way to record a step, each dispatch in a pass of its own.
#[test]
fn dispatches_recorded_one_by_one_make_the_step() {
    let gpu = gpu();
    let shape = Shape::nchw(3, 5, 6, 7);
    let x = noise(8, shape.elements().unwrap());
    let config = BatchNormConfig::new(5);
    let split = Tuning::default().strategy(Some(Strategy::Split));
    let [whole, single] = [false, true].map(|single| {
        let bound = bind(&gpu, shape, &config, &x, split);
        assert_eq!(bound.step.dispatch_count(), 3);
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        if single {
            // Beyond the last there is nothing, and nothing happens.
            for index in 0..5 {
                let mut pass = encoder.begin_compute_pass(&Default::default());
                bound.step.record_dispatch(index, &mut pass);
            }
        } else {
            bound.step.encode(&mut encoder);
        }
        gpu.queue().submit([encoder.finish()]);
        download(&gpu, &bound.y, x.len())
    });
    assert_eq!(whole, single);
    assert!(whole.iter().any(|&y| y != 0.0));
}

/// Where the driver has a cache, kernels are compiled through it: a cache of another device is refused.
#[test]
fn kernels_are_compiled_through_the_cache() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    let feature = wgpu::Features::PIPELINE_CACHE;
    let Some(adapter) = adapters
        .into_iter()
        .find(|a| a.features().contains(feature))
    else {
        println!("no adapter here has a pipeline cache");
        return;
    };
    let open = || {
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: feature,
            required_limits: Gpu::required_limits(),
            ..Default::default()
        }))
        .unwrap();
        // SAFETY: there is no data that could be another driver's.
        #[expect(unsafe_code)]
        let cache = unsafe {
            device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
                label: None,
                data: None,
                fallback: false,
            })
        };
        (device, queue, cache)
    };
    let (device, queue, own) = open();
    let (_, _, foreign) = open();
    let config = BatchNormConfig::new(8);
    let size = |cache: &wgpu::PipelineCache| cache.get_data().map_or(0, |data| data.len());
    let before = size(&own);

    let gpu = Gpu::from_kernels(
        Kernels::with_cache(&device, Some(own.clone())).unwrap(),
        queue.clone(),
    );
    let mut layer = config.build(&gpu).unwrap();
    let x = gpu.tensor(Shape::nc(4, 8), &noise(9, 32)).unwrap();
    let (y, _) = layer.train(&x).unwrap();
    assert_eq!(y.read().unwrap().len(), 32);
    // A driver that compiles when a kernel is first run, as llvmpipe does, has nothing to add.
    assert!(size(&own) >= before);

    let gpu = Gpu::from_kernels(Kernels::with_cache(&device, Some(foreign)).unwrap(), queue);
    let error = TrainPlan::new(gpu.kernels(), Shape::nc(4, 8), &config).unwrap_err();
    assert!(matches!(error, PlanError::Kernel { .. }), "{error}");
}
