//! Bad input gets a typed error that names the field, before anything is written.

use std::fmt::Display;
use std::process::Command;

use crate::common::{STORAGE, blank, download, gpu, gpu_with, noise, noop, noop_kernels, upload};
use wgpu::BufferUsages;
use wgpu_norm::batch_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, CombinePlan, EvalBuffers, EvalPlan, State,
    Strategy, Tile, TrainBuffers, TrainOptions, TrainPlan, Tuning,
};
use wgpu_norm::{
    BatchNormConfig, BindError, Error, Gpu, Kernels, Layout, PlanError, Shape, ShapeError,
    TensorError,
};

/// A device of an instance of its own.
fn of_an_instance() -> Gpu {
    let descriptor = wgpu::InstanceDescriptor::new_without_display_handle_from_env();
    let instance = wgpu::Instance::new(descriptor);
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).unwrap();
    let (device, queue) = pollster::block_on(adapter.request_device(&Default::default())).unwrap();
    Gpu::from_wgpu(device, queue).unwrap()
}

/// The call failed, and its message begins so.
fn fails<T, E: Display>(result: Result<T, E>, start: &str) {
    let message = match result {
        Ok(_) => panic!("no error that begins with {start:?}"),
        Err(error) => error.to_string(),
    };
    assert!(message.starts_with(start), "{message:?}, not {start:?}");
}

/// The call failed with an error of this kind.
macro_rules! fails_with {
    ($result:expr, $pattern:pat) => {
        match $result.map(drop) {
            Err($pattern) => {}
            other => panic!("{other:?}, not {}", stringify!($pattern)),
        }
    };
}

#[test]
fn shapes() {
    for dims in [&[][..], &[4], &[1, 2, 3, 4, 5, 6]] {
        let error = Shape::from_dims(dims, Layout::ChannelsFirst).unwrap_err();
        assert_eq!(error, ShapeError::Rank { rank: dims.len() });
        assert!(error.to_string().starts_with("shape:"));
    }
}

#[test]
fn plans() {
    let kernels = noop_kernels();
    let (shape, config) = (Shape::nchw(2, 4, 3, 3), BatchNormConfig::new(4));
    let untracked = config.track_running_stats(false);
    let too_many = Shape::nchw(1 << 20, 4, 1 << 10, 1 << 10);
    let single = Shape::nchw(1, 4, 1, 1);
    let single_message = "x: expected more than 1 value per channel";
    for (shape, config, start) in [
        (Shape::nchw(2, 5, 3, 3), config, "x: expected 4 channels"),
        (single, config, single_message),
        (Shape::nc(usize::MAX, 4), config, "x: "),
        (too_many, config, "x: "),
        (shape, config.eps(0.0), "eps: must be a positive number"),
        (shape, config.eps(-1e-5), "eps: "),
        (shape, config.eps(f32::NAN), "eps: "),
        (shape, config.momentum(Some(f32::NAN)), "momentum: "),
        (Shape::nc(2, 0), BatchNormConfig::new(0), "num_features: "),
    ] {
        fails(TrainPlan::new(&kernels, shape, &config), start);
    }
    let frozen = BackwardOptions::default().frozen(true);
    let frozen = BackwardPlan::with_options(&kernels, shape, &untracked, frozen);
    fails(frozen, "running: track_running_stats is off");
    // One value a channel and no eps are fine where statistics do not come from the batch.
    assert_eq!(TrainPlan::new(&kernels, shape, &config).map(drop), Ok(()));
    let one = Shape::nc(1, 4);
    assert!(EvalPlan::new(&kernels, one, &config.eps(0.0)).is_ok());
    fails(EvalPlan::new(&kernels, one, &untracked), single_message);
}

#[test]
fn forced_strategies_and_tiles() {
    let kernels = noop_kernels();
    let plan = |shape: Shape, tuning| {
        let config = BatchNormConfig::new(shape.channels());
        TrainPlan::with_options(
            &kernels,
            shape,
            &config,
            TrainOptions::default().tuning(tuning),
        )
    };
    for (shape, what) in [
        (Shape::nchw(2, 3, 7, 7), "16-byte vectors"),
        (Shape::nhwc(2, 7, 7, 3), "16-byte vectors"),
        (
            Shape::ncl(1, 1, 1 << 24),
            "too many values for one workgroup",
        ),
        (Shape::ncl(1, 8, 1 << 23), "larger than one binding"),
    ] {
        let reread = Tuning::default().strategy(Some(Strategy::Reread));
        let error = plan(shape, reread).unwrap_err();
        assert!(matches!(error, PlanError::Strategy { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    #[rustfmt::skip]
    let tiles = [[0, 0, 1], [48, 16, 1], [64, 12, 1], [32, 64, 1], [512, 32, 1], [1024, 32, 1], [8, 8, 0], [8, 8, 3], [8, 8, 32]];
    for [workgroup, lanes, columns] in tiles {
        let tile = Tile::new(workgroup, lanes).columns(columns);
        let tuning = Tuning::default().tile(Some(tile));
        fails_with!(plan(Shape::nc(8, 8), tuning), PlanError::Tile { .. });
    }
}

#[test]
fn limits_of_the_device() {
    let kernels = |change: fn(&mut wgpu::Limits)| {
        let mut limits = wgpu::Limits::default();
        change(&mut limits);
        Kernels::new(&noop(limits))
    };
    macro_rules! low {
        ($limit:ident, $value:expr) => {
            let start = concat!("device limits: ", stringify!($limit), " is ");
            fails(kernels(|limits| limits.$limit = $value), start);
        };
    }
    low!(max_storage_buffers_per_shader_stage, 4);
    low!(max_compute_workgroup_storage_size, 4096);
    low!(max_compute_invocations_per_workgroup, 32);
    low!(max_storage_buffer_binding_size, 512);
    low!(max_uniform_buffer_binding_size, 64);
    low!(max_bindings_per_bind_group, 8);
    low!(max_compute_workgroup_size_y, 0);
    // Parameters cannot be taken in windows.
    let small = kernels(|limits| limits.max_storage_buffer_binding_size = 4096).unwrap();
    let plan = |shape: Shape| EvalPlan::new(&small, shape, &BatchNormConfig::new(shape.channels()));
    let large = plan(Shape::nc(2, 4096));
    fails_with!(
        large,
        PlanError::Limit {
            available: 4096,
            ..
        }
    );
    assert!(plan(Shape::nchw(64, 64, 8, 8)).is_ok());
    // An empty batch needs its parameters all the same.
    let empty = TrainPlan::new(
        &small,
        Shape::nc(0, 1 << 31),
        &BatchNormConfig::new(1 << 31),
    );
    fails_with!(empty, PlanError::Limit { .. });
}

#[test]
fn a_tensor_above_the_largest_buffer() {
    let gpu = gpu_with(|limits| limits.max_buffer_size = 1 << 20);
    let shape = Shape::nc(1 << 10, 1 << 9);
    let error = gpu.tensor(shape, &vec![0.0; 1 << 19]).unwrap_err();
    let expected = PlanError::Limit {
        limit: "max_buffer_size",
        needed: 1 << 21,
        available: 1 << 20,
    };
    assert_eq!(error, Error::Plan(expected));
}

/// Everything that a training step needs, to be spoilt one by one.
struct Bench {
    gpu: Gpu,
    plan: TrainPlan,
    x: wgpu::Buffer,
    y: wgpu::Buffer,
    affine: wgpu::Buffer,
    running: wgpu::Buffer,
    saved: wgpu::Buffer,
    scratch: wgpu::Buffer,
    /// Of another device.
    foreign: wgpu::Buffer,
    /// Without the usage that a kernel needs.
    unusable: wgpu::Buffer,
}

impl Bench {
    fn new() -> Self {
        let gpu = gpu();
        let config = BatchNormConfig::new(64);
        let split = Tuning::default().strategy(Some(Strategy::Split));
        let shape = Shape::nchw(2, 64, 4, 4);
        let plan = TrainPlan::with_options(
            gpu.kernels(),
            shape,
            &config,
            TrainOptions::default().tuning(split),
        )
        .unwrap();
        Self {
            x: upload(&gpu, &noise(1, 2048)),
            y: upload(&gpu, &[7f32; 4096]),
            affine: upload(&gpu, &config.initial_affine()),
            running: upload(&gpu, &config.initial_running()),
            saved: blank(&gpu, plan.saved_bytes()),
            scratch: blank(&gpu, plan.scratch_bytes()),
            foreign: upload(&crate::common::gpu(), &noise(1, 2048)),
            unusable: used_as(&gpu, 8192, BufferUsages::COPY_SRC),
            gpu,
            plan,
        }
    }

    fn buffers(&self) -> TrainBuffers<'_> {
        TrainBuffers::new(self.x.slice(..), self.y.slice(..8192), self.saved.slice(..))
            .affine(self.affine.slice(..))
            .running(self.running.slice(..))
            .scratch(self.scratch.slice(..))
    }
}

fn used_as(gpu: &Gpu, size: u64, usage: BufferUsages) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size,
        usage,
        mapped_at_creation: false,
    })
}

/// What is done to one of the buffers.
type Spoil = for<'a> fn(&mut TrainBuffers<'a>, &'a Bench);

#[test]
fn buffers() {
    let bench = Bench::new();
    assert!(bench.plan.bind(&bench.buffers()).is_ok());
    let small = |field, needed, got| BindError::TooSmall { field, needed, got };
    let missing = |field, bytes| BindError::Missing { field, bytes };
    let crooked = |field, offset| BindError::Misaligned {
        field,
        offset,
        required: bench.gpu.kernels().caps().storage_alignment,
    };
    let unusable = |field| BindError::MissingUsage {
        field,
        needed: BufferUsages::STORAGE,
    };
    let overlap = |first, second| BindError::Overlap { first, second };
    let shared = |first, second| BindError::SharedBuffer { first, second };
    let (saved, scratch) = (bench.plan.saved_bytes(), bench.plan.scratch_bytes());
    #[rustfmt::skip]
    let cases: [(Spoil, BindError); 11] = [
        (|b, t| b.x = t.x.slice(..8188), small("x", 8192, 8188)),
        (|b, t| b.saved = t.saved.slice(..8), small("saved", saved, 8)),
        (|b, _| b.affine = None, missing("affine", 512)),
        (|b, _| b.scratch = None, missing("scratch", scratch)),
        (|b, t| b.y = t.y.slice(4..8196), crooked("y", 4)),
        (|b, t| b.x = t.unusable.slice(..), unusable("x")),
        (|b, t| b.x = t.y.slice(..8192), overlap("x", "y")),
        (|b, t| b.x = t.y.slice(4096..12288), overlap("x", "y")),
        (|b, t| b.x = t.y.slice(8192..), shared("x", "y")),
        (|b, t| b.affine = Some(t.running.slice(..)), overlap("affine", "running")),
        (|b, t| b.x = t.foreign.slice(..), BindError::Refused { message: String::new() }),
    ];
    for (spoil, expected) in cases {
        let mut buffers = bench.buffers();
        spoil(&mut buffers, &bench);
        match (bench.plan.bind(&buffers).map(drop), &expected) {
            // Its words are wgpu's.
            (Err(BindError::Refused { message }), BindError::Refused { .. }) => {
                assert!(!message.is_empty());
            }
            (result, _) => assert_eq!(result, Err(expected)),
        }
        // Nothing was written, and the device is as well as before.
        assert_eq!(download(&bench.gpu, &bench.y, 4096), [7.0; 4096]);
    }
    // Whether two slices may share a buffer is the same for every strategy.
    for &strategy in Strategy::ALL {
        let tuning = Tuning::default().strategy(Some(strategy));
        let options = TrainOptions::default().tuning(tuning);
        let config = BatchNormConfig::new(16);
        // Two planes of 64 values a channel fit every strategy.
        let shape = Shape::nchw(2, 16, 8, 8);
        let plan = TrainPlan::with_options(bench.gpu.kernels(), shape, &config, options);
        let mut buffers = bench.buffers();
        let one = blank(&bench.gpu, 16384);
        buffers.x = one.slice(..8192);
        buffers.running = Some(one.slice(8192..));
        let bound = plan.unwrap().bind(&buffers).map(drop);
        assert_eq!(bound, Err(shared("x", "running")), "{strategy}");
    }
    bench.x.destroy();
    let step = bench.plan.bind(&bench.buffers());
    assert!(step.is_ok() || matches!(step, Err(BindError::Refused { .. })));
}

#[test]
fn buffers_that_the_configuration_has_no_use_for() {
    let gpu = gpu();
    let config = BatchNormConfig::new(4)
        .affine(false)
        .track_running_stats(false);
    let shape = Shape::nc(4, 4);
    let (x, y) = (upload(&gpu, &noise(1, 16)), blank(&gpu, 64));
    let (saved, scratch, extra) = (blank(&gpu, 64), blank(&gpu, 4096), blank(&gpu, 64));
    let unexpected = |field| Err(BindError::Unexpected { field });
    let plan = TrainPlan::new(gpu.kernels(), shape, &config).unwrap();
    let good =
        TrainBuffers::new(x.slice(..), y.slice(..), saved.slice(..)).scratch(scratch.slice(..));
    let bind = |buffers: &TrainBuffers<'_>| plan.bind(buffers).map(drop);
    assert_eq!(bind(&good), Ok(()));
    let (mut affine, mut running) = (good, good);
    affine.affine = Some(extra.slice(..));
    assert_eq!(bind(&affine), unexpected("affine"));
    running.running = Some(extra.slice(..));
    assert_eq!(bind(&running), unexpected("running"));

    let plan = BackwardPlan::new(gpu.kernels(), shape, &config).unwrap();
    let step = plan.bind(
        &BackwardBuffers::new(x.slice(..), x.slice(..))
            .dx(y.slice(..))
            .saved(saved.slice(..))
            .grads(extra.slice(..))
            .scratch(scratch.slice(..)),
    );
    assert_eq!(step.map(drop), unexpected("grads"));
    let plan = EvalPlan::new(gpu.kernels(), shape, &config).unwrap();
    let step = plan.bind(
        &EvalBuffers::new(x.slice(..))
            .y(y.slice(..))
            .scratch(scratch.slice(..)),
    );
    fails_with!(step, BindError::Missing { field: "saved", .. });
}

#[test]
fn tensors() {
    let gpu = gpu();
    let shape = Shape::nc(4, 4);
    let short = gpu.tensor(shape, &[0.0; 15]);
    fails_with!(
        short,
        Error::Tensor(TensorError::Length {
            expected: 16,
            got: 15,
            ..
        })
    );
    let huge = Shape::nc(usize::MAX, 4);
    for (shape, bytes) in [(shape, 48), (huge, 64)] {
        assert!(gpu.tensor_from_buffer(shape, blank(&gpu, bytes)).is_err());
    }

    let mut bn = BatchNormConfig::new(4).build(&gpu).unwrap();
    let other = BatchNormConfig::new(4).build(&gpu).unwrap();
    let before = bn.state().unwrap();
    let x = gpu.tensor(shape, &noise(1, 16)).unwrap();
    let wide = gpu.tensor(Shape::nc(2, 8), &noise(1, 16)).unwrap();
    let foreign = crate::common::gpu().tensor(shape, &noise(1, 16)).unwrap();
    let wrong_device = |field| Err(TensorError::WrongDevice { field }.into());
    assert_eq!(bn.train(&foreign).map(drop), wrong_device("x"));
    fails_with!(bn.train(&wide), Error::Plan(PlanError::Channels { .. }));
    assert_eq!(bn.state().unwrap(), before);

    let mut saved = || bn.train(&x).unwrap().1;
    let (of_other, of_wide, of_foreign) = (saved(), saved(), saved());
    let error = other.backward(of_other, &x).map(drop).unwrap_err().error;
    assert_eq!(error, TensorError::ForeignSaved.into());
    let start = "dy: expected n4c4 nc f32, got n2c8 nc f32";
    fails(bn.backward(of_wide, &wide), start);
    let error = bn.backward(of_foreign, &foreign).map(drop);
    assert_eq!(error.map_err(Error::from), wrong_device("dy"));

    // Clones of one device are one device, and devices of two instances two, although wgpu compares them by their numbers.
    let [gpu, stranger] = [(); 2].map(|()| of_an_instance());
    assert_eq!(gpu.device(), stranger.device());
    let mut bn = BatchNormConfig::new(4).build(&gpu).unwrap();
    let again = Gpu::from_wgpu(gpu.device().clone(), gpu.queue().clone()).unwrap();
    let _ = bn
        .train(&again.tensor(shape, &noise(1, 16)).unwrap())
        .unwrap();
    let strange = stranger.tensor(shape, &noise(1, 16)).unwrap();
    assert_eq!(bn.train(&strange).map(drop), wrong_device("x"));

    // Memory without the usages that a tensor needs is found out when it is bound.
    let bare = used_as(&gpu, 64, STORAGE.difference(BufferUsages::STORAGE));
    let bare = gpu.tensor_from_buffer(shape, bare).unwrap();
    fails_with!(
        bn.eval(&bare),
        Error::Bind(BindError::MissingUsage { field: "x", .. })
    );
    let kept = used_as(&gpu, 64, BufferUsages::STORAGE);
    for buffer in [kept, blank(&crate::common::gpu(), 64)] {
        let unreadable = gpu.tensor_from_buffer(shape, buffer).unwrap();
        fails_with!(
            unreadable.read(),
            Error::Tensor(TensorError::Unreadable { .. })
        );
        fails(pollster::block_on(unreadable.read_async()), "tensor: ");
    }
}

/// A buffer that the application still has mapped cannot be computed with.
#[test]
fn a_mapped_tensor() {
    let gpu = gpu();
    let shape = Shape::nc(4, 4);
    let mapped = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: Some("mapped"),
        size: 64,
        usage: STORAGE,
        mapped_at_creation: true,
    });
    let x = gpu.tensor_from_buffer(shape, mapped).unwrap();
    let mut bn = BatchNormConfig::new(4).build(&gpu).unwrap();
    let before = bn.state().unwrap();
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        let is = matches!(&error, Error::Bind(BindError::Refused { message }) if message.contains("mapped"));
        assert!(is, "{error}");
    };
    refused(bn.train(&x).map(drop));
    refused(bn.eval(&x).map(drop));
    refused(bn.frozen(&x).map(drop));
    let y = gpu.tensor(shape, &noise(1, 16)).unwrap();
    let (_, saved) = bn.train(&y).unwrap();
    refused(bn.backward(saved, &x).map(drop).map_err(Error::from));
    fails_with!(x.read(), Error::Tensor(TensorError::Unreadable { .. }));
    bn.load_state(&before).unwrap();
    x.buffer().unmap();
    bn.train(&x).map(drop).unwrap();
}

#[test]
fn parameters_that_were_destroyed() {
    let mut bn = BatchNormConfig::new(4).build(&gpu()).unwrap();
    let state = bn.state().unwrap();
    bn.affine_buffer().unwrap().destroy();
    fails_with!(
        bn.load_state(&state),
        Error::Tensor(TensorError::Unwritable {
            field: "affine",
            ..
        })
    );
    fails_with!(
        bn.set_bias(&[0.0; 4]),
        Error::Tensor(TensorError::Unwritable { .. })
    );
}

/// wgpu does not tell whose queue it is. The first submission does.
#[test]
fn the_queue_of_another_device() {
    let (gpu, other) = (gpu(), gpu_with(|_| ()));
    let mixed = Gpu::from_wgpu(gpu.device().clone(), other.queue().clone()).unwrap();
    let x = mixed.tensor(Shape::nc(4, 4), &noise(1, 16));
    fails_with!(x, Error::Bind(BindError::Refused { .. }));
    let layer = BatchNormConfig::new(4).build(&mixed);
    fails_with!(layer, Error::Bind(BindError::Refused { .. }));
}

#[test]
fn two_handles_of_one_device_share_tensors() {
    let gpu = gpu();
    let again = Gpu::from_wgpu(gpu.device().clone(), gpu.queue().clone()).unwrap();
    let x = again.tensor(Shape::nc(4, 4), &noise(1, 16)).unwrap();
    let mut bn = BatchNormConfig::new(4).build(&gpu).unwrap();
    let (y, saved) = bn.train(&x).unwrap();
    bn.backward(saved, &y).map(drop).unwrap();
}

#[test]
fn more_work_than_a_grid_or_a_kernel_holds() {
    let mut limits = Gpu::required_limits();
    limits.max_compute_workgroups_per_dimension = 16;
    let kernels = Kernels::new(&noop(limits)).unwrap();
    let shape = Shape::ncl(2, 1000, 4);
    let error = TrainPlan::new(&kernels, shape, &BatchNormConfig::new(1000)).map(drop);
    let expected = PlanError::Limit {
        limit: "max_compute_workgroups_per_dimension",
        needed: 63,
        available: 16,
    };
    assert_eq!(error, Err(expected));
    let kernels = noop_kernels();
    for channels in [1, 1 << 31] {
        let plan = CombinePlan::new(&kernels, &BatchNormConfig::new(channels), u32::MAX);
        fails_with!(plan, PlanError::Unsupported { field: "parts", .. });
    }
}

#[test]
fn layers_of_more_channels_than_a_device_can_hold() {
    let gpu = gpu();
    for channels in [usize::MAX, 1 << 40, 1 << 31] {
        let layer = BatchNormConfig::new(channels).build(&gpu);
        fails_with!(layer, Error::Plan(PlanError::Limit { .. }));
    }
    assert!(BatchNormConfig::new(0).build(&gpu).is_err());
}

/// What is done to a state.
type Change = fn(&mut State);

#[test]
fn states() {
    let gpu = gpu();
    let mut bn = BatchNormConfig::new(3).bias(false).build(&gpu).unwrap();
    let good = bn.state().unwrap();
    #[rustfmt::skip]
    let cases: [(Change, &str); 10] = [
        (|s| s.weight = None, "weight: is missing"),
        (|s| s.weight = Some(vec![1.0; 4]), "weight: expected 3 values"),
        (|s| s.bias = Some(vec![1.0; 3]), "bias: is given"),
        (|s| s.running_var = None, "running_var: is missing"),
        (|s| s.running_var = Some(vec![1.0, -1e-7, 1.0]), "running_var: must be 0 or more, got -0.0000001 in channel 1"),
        (|s| s.running_var = Some(vec![1.0, 1.0, f32::NAN]), "running_var: must be 0 or more, got NaN in channel 2"),
        (|s| s.running_mean = Some(vec![f32::NAN, 0.0, 0.0]), "running_mean: must be a finite number, got NaN in channel 0"),
        (|s| s.running_mean = Some(vec![f32::INFINITY; 3]), "running_mean: must be a finite number, got inf"),
        (|s| s.num_batches_tracked = None, "num_batches_tracked: is missing"),
        (|s| s.num_batches_tracked = Some(1 << 32), "num_batches_tracked: is above"),
    ];
    for (spoil, start) in cases {
        // What comes before the fault must not be written either.
        let mut bad = good.clone();
        bad.weight = Some(vec![9.0; 3]);
        spoil(&mut bad);
        fails(bn.load_state(&bad), start);
        assert_eq!(bn.state().unwrap(), good);
    }
}

/// Run by the test below, in an environment of its making.
#[test]
#[ignore = "a part of the test of missing adapters"]
fn opens_a_gpu() {
    if let Err(error) = Gpu::open() {
        println!("{error}");
        std::process::exit(3);
    }
}

fn open_with(variable: &str, value: &str) -> String {
    let part = concat!(module_path!(), "::opens_a_gpu");
    let part = part.split_once("::").unwrap().1;
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", part, "--ignored", "--nocapture"])
        .env(variable, value)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn an_adapter_that_is_not_there() {
    let message = open_with("WGPU_ADAPTER_NAME", "no such adapter");
    assert!(message.contains(
        "\"no such adapter\" (option or WGPU_ADAPTER_NAME) is in no adapter's name; found: "
    ));
    let message = open_with("WGPU_BACKEND", "vulcan");
    assert!(message.contains("WGPU_BACKEND is \"vulcan\""), "{message}");
    let message = open_with("WGPU_BACKEND", "noop");
    assert!(message.contains("no GPU adapter"), "{message}");
    assert!(message.contains("mesa-vulkan-drivers"), "{message}");
}
