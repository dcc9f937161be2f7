//! Bad input gets a typed error that names the field, before anything is written.

#[allow(dead_code)]
mod common;

use std::process::Command;

use common::{STORAGE, blank, download, gpu, noise, upload};
use wgpu::BufferUsages;
use wgpu_norm::batch_norm::{
    BackwardBuffers, BackwardPlan, CombinePlan, EvalBuffers, EvalPlan, State, Strategy, Tile,
    TrainBuffers, TrainPlan, Tuning,
};
use wgpu_norm::{
    BatchNormConfig, BindError, Error, Gpu, Kernels, Layout, PlanError, Shape, ShapeError,
    TensorError,
};

/// A device that computes nothing, with limits as given.
fn noop(limits: wgpu::Limits) -> wgpu::Device {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::NOOP;
    descriptor.backend_options.noop.enable = true;
    let instance = wgpu::Instance::new(descriptor);
    let adapter = pollster::block_on(instance.request_adapter(&Default::default())).unwrap();
    let descriptor = wgpu::DeviceDescriptor {
        required_limits: limits,
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor))
        .unwrap()
        .0
}

fn noop_kernels() -> Kernels {
    Kernels::new(&noop(Gpu::required_limits())).unwrap()
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
    let train = |shape, config: BatchNormConfig| TrainPlan::new(&kernels, shape, &config).map(drop);
    let config = BatchNormConfig::new(4);
    let shape = Shape::nchw(2, 4, 3, 3);
    assert_eq!(train(shape, config), Ok(()));
    let cases = [
        (
            train(Shape::nchw(2, 5, 3, 3), config),
            "x: expected 4 channels",
        ),
        (
            train(Shape::nchw(1, 4, 1, 1), config),
            "x: expected more than 1 value per channel",
        ),
        (train(Shape::nc(usize::MAX, 4), config), "x: "),
        (
            train(Shape::nchw(1 << 20, 4, 1 << 10, 1 << 10), config),
            "x: ",
        ),
        (
            train(shape, config.eps(0.0)),
            "eps: must be a positive number",
        ),
        (train(shape, config.eps(-1e-5)), "eps: "),
        (train(shape, config.eps(f32::NAN)), "eps: "),
        (train(shape, config.momentum(Some(f32::NAN))), "momentum: "),
        (
            train(Shape::nc(2, 0), BatchNormConfig::new(0)),
            "num_features: ",
        ),
        (
            BackwardPlan::frozen(&kernels, shape, &config.track_running_stats(false)).map(drop),
            "running: track_running_stats is off",
        ),
    ];
    for (result, start) in cases {
        let message = result.unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
    }
    // One value a channel and no eps are fine where statistics do not come from the batch.
    let one = Shape::nc(1, 4);
    assert!(EvalPlan::new(&kernels, one, &config.eps(0.0)).is_ok());
    assert!(EvalPlan::new(&kernels, one, &config.track_running_stats(false)).is_err());
}

#[test]
fn forced_strategies_and_tiles() {
    let kernels = noop_kernels();
    let plan = |shape: Shape, tuning| {
        let config = BatchNormConfig::new(shape.channels());
        TrainPlan::with_tuning(&kernels, shape, &config, tuning).map(drop)
    };
    let reread = Tuning {
        strategy: Some(Strategy::Reread),
        ..Tuning::default()
    };
    for (shape, what) in [
        (Shape::nchw(2, 3, 7, 7), "16-byte vectors"),
        (Shape::nhwc(2, 7, 7, 3), "16-byte vectors"),
        (Shape::ncl(1, 1, 1 << 24), "too long for one workgroup"),
        (Shape::ncl(1, 8, 1 << 23), "larger than one binding"),
    ] {
        let error = plan(shape, reread).unwrap_err();
        assert!(matches!(error, PlanError::Strategy { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    for (workgroup, lanes, columns) in [
        (0, 0, 1),
        (48, 16, 1),
        (64, 12, 1),
        (32, 64, 1),
        (512, 32, 1),
        (8, 8, 0),
        (8, 8, 3),
        (8, 8, 32),
    ] {
        let tuning = Tuning {
            tile: Some(Tile {
                workgroup,
                lanes,
                columns,
            }),
            ..Tuning::default()
        };
        let error = plan(Shape::nc(8, 8), tuning).unwrap_err();
        assert!(matches!(error, PlanError::Tile { .. }), "{error}");
    }
}

#[test]
fn limits_of_the_device() {
    let low = |change: fn(&mut wgpu::Limits)| {
        let mut limits = wgpu::Limits::default();
        change(&mut limits);
        Kernels::new(&noop(limits))
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    for (message, limit) in [
        (
            low(|l| l.max_storage_buffers_per_shader_stage = 4),
            "max_storage_buffers_per_shader_stage",
        ),
        (
            low(|l| l.max_compute_workgroup_storage_size = 4096),
            "max_compute_workgroup_storage_size",
        ),
        (
            low(|l| l.max_compute_invocations_per_workgroup = 32),
            "max_compute_invocations_per_workgroup",
        ),
        (
            low(|l| l.max_storage_buffer_binding_size = 512),
            "max_storage_buffer_binding_size",
        ),
    ] {
        assert!(
            message.starts_with(&format!("device limits: {limit} is ")),
            "{message}"
        );
    }
    // Parameters cannot be taken in windows.
    let kernels = Kernels::new(&noop(wgpu::Limits {
        max_storage_buffer_binding_size: 4096,
        ..Default::default()
    }))
    .unwrap();
    let error =
        EvalPlan::new(&kernels, Shape::nc(2, 4096), &BatchNormConfig::new(4096)).unwrap_err();
    assert!(
        matches!(
            error,
            PlanError::Limit {
                available: 4096,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        EvalPlan::new(
            &kernels,
            Shape::nchw(64, 64, 8, 8),
            &BatchNormConfig::new(64)
        )
        .is_ok()
    );
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
}

impl Bench {
    fn new() -> Self {
        let gpu = gpu();
        let config = BatchNormConfig::new(64);
        let plan = TrainPlan::with_tuning(
            gpu.kernels(),
            Shape::nchw(2, 64, 4, 4),
            &config,
            Tuning {
                strategy: Some(Strategy::Split),
                ..Tuning::default()
            },
        )
        .unwrap();
        Self {
            x: upload(&gpu, &noise(1, 2048)),
            y: upload(&gpu, &[7f32; 4096]),
            affine: upload(&gpu, &config.initial_affine()),
            running: upload(&gpu, &config.initial_running()),
            saved: blank(&gpu, plan.saved_bytes()),
            scratch: blank(&gpu, plan.scratch_bytes()),
            gpu,
            plan,
        }
    }

    fn buffers(&self) -> TrainBuffers<'_> {
        TrainBuffers {
            x: self.x.slice(..),
            y: self.y.slice(..8192),
            residual: None,
            affine: Some(self.affine.slice(..)),
            running: Some(self.running.slice(..)),
            saved: self.saved.slice(..),
            scratch: Some(self.scratch.slice(..)),
        }
    }

    fn error(&self, buffers: TrainBuffers<'_>) -> BindError {
        let error = self.plan.bind(&buffers).expect_err("bad buffers");
        // Nothing was written, and the device is as well as before.
        assert_eq!(download(&self.gpu, &self.y, 4096), [7.0; 4096]);
        error
    }
}

#[test]
fn buffers() {
    let bench = Bench::new();
    let good = bench.buffers();
    assert!(bench.plan.bind(&good).is_ok());

    let error = bench.error(TrainBuffers {
        x: bench.x.slice(..8188),
        ..good
    });
    assert_eq!(
        error,
        BindError::TooSmall {
            field: "x",
            needed: 8192,
            got: 8188
        }
    );
    let error = bench.error(TrainBuffers {
        saved: bench.saved.slice(..8),
        ..good
    });
    assert!(matches!(error, BindError::TooSmall { field: "saved", .. }));
    let error = bench.error(TrainBuffers {
        affine: None,
        ..good
    });
    assert_eq!(
        error,
        BindError::Missing {
            field: "affine",
            bytes: 512
        }
    );
    let error = bench.error(TrainBuffers {
        scratch: None,
        ..good
    });
    assert!(matches!(
        error,
        BindError::Missing {
            field: "scratch",
            ..
        }
    ));
    let error = bench.error(TrainBuffers {
        y: bench.y.slice(4..8196),
        residual: None,
        ..good
    });
    assert!(matches!(
        error,
        BindError::Misaligned {
            field: "y",
            offset: 4,
            ..
        }
    ));

    let unusable = bench.gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 8192,
        usage: BufferUsages::COPY_SRC,
        mapped_at_creation: false,
    });
    let error = bench.error(TrainBuffers {
        x: unusable.slice(..),
        ..good
    });
    assert_eq!(
        error,
        BindError::MissingUsage {
            field: "x",
            needed: BufferUsages::STORAGE
        }
    );

    let error = bench.error(TrainBuffers {
        x: bench.y.slice(..8192),
        ..good
    });
    assert_eq!(
        error,
        BindError::Overlap {
            first: "x",
            second: "y"
        }
    );
    let error = bench.error(TrainBuffers {
        x: bench.y.slice(4096..12288),
        ..good
    });
    assert_eq!(
        error,
        BindError::Overlap {
            first: "x",
            second: "y"
        }
    );
    let error = bench.error(TrainBuffers {
        x: bench.y.slice(8192..),
        ..good
    });
    assert_eq!(
        error,
        BindError::SharedBuffer {
            read: "x",
            written: "y"
        }
    );
    let error = bench.error(TrainBuffers {
        affine: Some(bench.running.slice(..)),
        ..good
    });
    assert!(matches!(
        error,
        BindError::Overlap {
            first: "affine",
            second: "running"
        }
    ));

    let other = gpu();
    let foreign = upload(&other, &noise(1, 2048));
    let error = bench.error(TrainBuffers {
        x: foreign.slice(..),
        ..good
    });
    assert!(matches!(error, BindError::Refused { .. }), "{error}");
    bench.x.destroy();
    let step = bench.plan.bind(&good);
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
    let plan = TrainPlan::new(gpu.kernels(), shape, &config).unwrap();
    let good = TrainBuffers {
        x: x.slice(..),
        y: y.slice(..),
        residual: None,
        affine: None,
        running: None,
        saved: saved.slice(..),
        scratch: Some(scratch.slice(..)),
    };
    assert!(plan.bind(&good).is_ok());
    let error = plan
        .bind(&TrainBuffers {
            affine: Some(extra.slice(..)),
            ..good
        })
        .unwrap_err();
    assert_eq!(error, BindError::Unexpected { field: "affine" });
    let error = plan
        .bind(&TrainBuffers {
            running: Some(extra.slice(..)),
            ..good
        })
        .unwrap_err();
    assert_eq!(error, BindError::Unexpected { field: "running" });

    let plan = BackwardPlan::new(gpu.kernels(), shape, &config).unwrap();
    let error = plan
        .bind(&BackwardBuffers {
            x: x.slice(..),
            dy: x.slice(..),
            dx: Some(y.slice(..)),
            output: None,
            dresidual: None,
            statistics: saved.slice(..),
            affine: None,
            grads: Some(extra.slice(..)),
            scratch: Some(scratch.slice(..)),
        })
        .unwrap_err();
    assert_eq!(error, BindError::Unexpected { field: "grads" });
    let plan = EvalPlan::new(gpu.kernels(), shape, &config).unwrap();
    let error = plan
        .bind(&EvalBuffers {
            x: x.slice(..),
            y: Some(y.slice(..)),
            residual: None,
            affine: None,
            running: None,
            saved: None,
            scratch: Some(scratch.slice(..)),
        })
        .unwrap_err();
    assert!(matches!(error, BindError::Missing { field: "saved", .. }));
}

#[test]
fn tensors() {
    let gpu = gpu();
    let shape = Shape::nc(4, 4);
    let error = gpu.tensor(shape, &[0.0; 15]).unwrap_err();
    assert!(matches!(
        error,
        Error::Tensor(TensorError::Length {
            expected: 16,
            got: 15,
            ..
        })
    ));
    let short = blank(&gpu, 48);
    assert!(gpu.tensor_from_buffer(shape, short).is_err());
    assert!(
        gpu.tensor_from_buffer(Shape::nc(usize::MAX, 4), blank(&gpu, 64))
            .is_err()
    );

    let mut bn = BatchNormConfig::new(4).build(&gpu).unwrap();
    let other = BatchNormConfig::new(4).build(&gpu).unwrap();
    let before = bn.state().unwrap();
    let x = gpu.tensor(shape, &noise(1, 16)).unwrap();
    let foreign = common::gpu().tensor(shape, &noise(1, 16)).unwrap();
    let error = bn.train(&foreign).map(drop).unwrap_err();
    assert_eq!(error, TensorError::WrongDevice { field: "x" }.into());
    let wide = gpu.tensor(Shape::nc(2, 8), &noise(1, 16)).unwrap();
    assert!(matches!(
        bn.train(&wide).map(drop),
        Err(Error::Plan(PlanError::Channels { .. }))
    ));
    assert_eq!(bn.state().unwrap(), before);

    let (_, saved) = bn.train(&x).unwrap();
    let error = other.backward(saved, &x).map(drop).unwrap_err();
    assert_eq!(error, TensorError::ForeignSaved.into());
    let (_, saved) = bn.train(&x).unwrap();
    let error = bn.backward(saved, &wide).map(drop).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("dy: expected n4c4 nc f32, got n2c8 nc f32"),
        "{error}"
    );
    let (_, saved) = bn.train(&x).unwrap();
    let error = bn.backward(saved, &foreign).map(drop).unwrap_err();
    assert_eq!(error, TensorError::WrongDevice { field: "dy" }.into());
    // Memory without the usages that a tensor needs is found out when it is bound.
    let bare = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 64,
        usage: STORAGE.difference(BufferUsages::STORAGE),
        mapped_at_creation: false,
    });
    let bare = gpu.tensor_from_buffer(shape, bare).unwrap();
    let error = bn.eval(&bare).map(drop).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Bind(BindError::MissingUsage { field: "x", .. })
        ),
        "{error}"
    );
    let kept = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 64,
        usage: BufferUsages::STORAGE,
        mapped_at_creation: false,
    });
    for buffer in [kept, blank(&common::gpu(), 64)] {
        let unreadable = gpu.tensor_from_buffer(shape, buffer).unwrap();
        let error = unreadable.read().unwrap_err();
        assert!(
            matches!(error, Error::Tensor(TensorError::Unreadable { .. })),
            "{error}"
        );
        let error = pollster::block_on(unreadable.read_async()).unwrap_err();
        assert!(error.to_string().starts_with("tensor: "), "{error}");
    }
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
    let error = TrainPlan::new(&kernels, shape, &BatchNormConfig::new(1000)).unwrap_err();
    let limit = "max_compute_workgroups_per_dimension";
    assert!(
        matches!(error, PlanError::Limit { limit: l, needed: 63, available: 16 } if l == limit),
        "{error}"
    );
    let kernels = noop_kernels();
    for channels in [1, 1 << 31] {
        let error = CombinePlan::new(&kernels, &BatchNormConfig::new(channels), u32::MAX);
        let error = error.unwrap_err();
        assert!(
            matches!(error, PlanError::Unsupported { field: "parts", .. }),
            "{error}"
        );
    }
}

#[test]
fn layers_of_more_channels_than_a_device_can_hold() {
    let gpu = gpu();
    for channels in [usize::MAX, 1 << 40, 1 << 31] {
        let error = BatchNormConfig::new(channels)
            .build(&gpu)
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(error, Error::Plan(PlanError::Limit { .. })),
            "{error}"
        );
    }
    assert!(BatchNormConfig::new(0).build(&gpu).is_err());
}

#[test]
fn states() {
    let gpu = gpu();
    let mut bn = BatchNormConfig::new(3).bias(false).build(&gpu).unwrap();
    let good = bn.state().unwrap();
    let cases = [
        (
            State {
                weight: None,
                ..good.clone()
            },
            "weight: is missing",
        ),
        (
            State {
                weight: Some(vec![1.0; 4]),
                ..good.clone()
            },
            "weight: expected 3 values",
        ),
        (
            State {
                bias: Some(vec![1.0; 3]),
                ..good.clone()
            },
            "bias: is given",
        ),
        (
            State {
                running_var: None,
                ..good.clone()
            },
            "running_var: is missing",
        ),
        (
            State {
                num_batches_tracked: None,
                ..good.clone()
            },
            "num_batches_tracked: is missing",
        ),
        (
            State {
                num_batches_tracked: Some(1 << 32),
                ..good.clone()
            },
            "num_batches_tracked: is above",
        ),
    ];
    for (mut bad, start) in cases {
        // What comes before the fault must not be written either.
        bad.running_mean = Some(vec![9.0; 3]);
        let message = bn.load_state(&bad).unwrap_err().to_string();
        assert!(message.starts_with(start), "{message}");
        assert_eq!(bn.state().unwrap(), good);
    }
}

/// Run by the tests below, in an environment of their making.
#[test]
#[ignore = "a part of the tests of missing adapters"]
fn opens_a_gpu() {
    if let Err(error) = Gpu::open() {
        println!("{error}");
        std::process::exit(3);
    }
}

fn open_with(variable: &str, value: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "opens_a_gpu", "--ignored", "--nocapture"])
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
    let message = open_with("WGPU_BACKEND", "noop");
    assert!(
        message.contains("no GPU adapter") && message.contains("mesa-vulkan-drivers"),
        "{message}"
    );
}
