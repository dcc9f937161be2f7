//! Plans as data: who compiles and launches the kernels by hand gets the bits that the plan gives.

use std::ops::Range;

use crate::common::{STORAGE, gpu, noise};
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_norm::batch_norm::{
    BackwardBuffers, BackwardOptions, BackwardPlan, Destination, Epilogue, EvalOptions, EvalPlan,
    Line, ParameterGradients, Strategy, TrainBuffers, TrainOptions, TrainPlan, Tuning,
};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{
    Access, BatchNormConfig, Caps, Dtype, Form, Gpu, Launch, Problem, Shape, group_norm,
    instance_norm, layer_norm,
};

/// An engine's form: slices of one buffer, and no pipeline constants.
fn lent() -> Form {
    Form::default().read_write(true).constants(true)
}

/// Memory by name.
struct Memory {
    slices: Vec<(&'static str, wgpu::Buffer, Range<u64>)>,
}

impl Memory {
    /// A buffer for each name.
    fn apart(gpu: &Gpu, contents: &[(&'static str, Vec<u8>)]) -> Self {
        let slices = contents.iter().map(|(name, bytes)| {
            let buffer = buffer_of(gpu, bytes);
            (*name, buffer, 0..bytes.len() as u64)
        });
        Self {
            slices: slices.collect(),
        }
    }

    /// One buffer of which each name has a slice.
    fn in_one(gpu: &Gpu, contents: &[(&'static str, Vec<u8>)]) -> Self {
        let caps = gpu.kernels().caps();
        let (mut all, mut ranges) = (Vec::new(), Vec::new());
        for (name, bytes) in contents {
            all.resize(caps.align(all.len() as u64) as usize, 0xff);
            let begin = all.len() as u64;
            all.extend(bytes);
            ranges.push((*name, begin..all.len() as u64));
        }
        let buffer = buffer_of(gpu, &all);
        let slices = ranges.into_iter();
        Self {
            slices: slices
                .map(|(n, range)| (n, buffer.clone(), range))
                .collect(),
        }
    }

    fn find(&self, name: &str) -> (&wgpu::Buffer, Range<u64>) {
        let found = self.slices.iter().find(|(other, ..)| *other == name);
        let (_, buffer, range) = found.unwrap_or_else(|| panic!("no memory named {name}"));
        (buffer, range.clone())
    }

    fn slice(&self, name: &str) -> wgpu::BufferSlice<'_> {
        let (buffer, range) = self.find(name);
        buffer.slice(range)
    }

    /// The slice if it has more than a placeholder's bytes.
    fn some(&self, name: &str, bytes: u64) -> Option<wgpu::BufferSlice<'_>> {
        (bytes > 0).then(|| self.slice(name))
    }

    fn bits(&self, gpu: &Gpu, name: &str) -> Vec<u32> {
        let values = gpu.read_f32(self.slice(name)).unwrap();
        values.into_iter().map(f32::to_bits).collect()
    }
}

fn buffer_of(gpu: &Gpu, contents: &[u8]) -> wgpu::Buffer {
    gpu.device().create_buffer_init(&BufferInitDescriptor {
        label: None,
        contents,
        usage: STORAGE,
    })
}

/// Compiles each launch with plain wgpu and runs all of them in order.
fn run(gpu: &Gpu, launches: &[Launch], form: Form, memory: &Memory) {
    let device = gpu.device();
    let mut encoder = device.create_command_encoder(&Default::default());
    for launch in launches {
        let label = Some(launch.label.as_str());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(launch.wgsl.as_str().into()),
        });
        let kind = |access| match access {
            Access::Uniform => wgpu::BufferBindingType::Uniform,
            Access::Read => wgpu::BufferBindingType::Storage {
                read_only: !form.read_write,
            },
            Access::Write => wgpu::BufferBindingType::Storage { read_only: false },
        };
        let entries = launch.bindings.iter();
        let entries = entries.map(|binding| wgpu::BindGroupLayoutEntry {
            binding: binding.binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: kind(binding.access),
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        });
        let group_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries.collect::<Vec<_>>(),
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&group_layout)],
            immediate_size: 0,
        });
        let overrides = launch.overrides.iter();
        let constants: Vec<_> = overrides.map(|&(name, v)| (name, f64::from(v))).collect();
        assert!(constants.is_empty() || !form.constants);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&layout),
            module: &module,
            entry_point: Some(launch.entry_point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                ..Default::default()
            },
            cache: None,
        });
        let uniform = device.create_buffer_init(&BufferInitDescriptor {
            label,
            contents: &launch.uniform,
            usage: wgpu::BufferUsages::UNIFORM,
        });
        let unused: Vec<_> = launch
            .bindings
            .iter()
            .map(|_| buffer_of(gpu, &[0xff; 16]))
            .collect();
        let entries = launch
            .bindings
            .iter()
            .zip(&unused)
            .map(|(binding, unused)| {
                let resource = match (&binding.bytes, binding.access) {
                    (None, Access::Uniform) => uniform.as_entire_binding(),
                    (None, _) => unused.as_entire_binding(),
                    (Some(bytes), _) => {
                        let (buffer, range) = memory.find(binding.name);
                        assert!(range.start + bytes.end <= range.end, "{}", binding.name);
                        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                            buffer,
                            offset: range.start + bytes.start,
                            size: wgpu::BufferSize::new(bytes.end - bytes.start),
                        })
                    }
                };
                wgpu::BindGroupEntry {
                    binding: binding.binding,
                    resource,
                }
            });
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label,
            layout: &group_layout,
            entries: &entries.collect::<Vec<_>>(),
        });
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(launch.grid[0], launch.grid[1], 1);
    }
    gpu.queue().submit([encoder.finish()]);
}

/// What training and its backward pass read, and room for what they write.
fn contents(
    problem: Problem,
    config: &BatchNormConfig,
    scratch: u64,
) -> Vec<(&'static str, Vec<u8>)> {
    let (shape, channels) = (problem.shape, config.num_features);
    let tensor = |seed| problem.dtype.pack(&noise(seed, shape.elements().unwrap()));
    let affine = match config.affine_rows().bytes() as usize / 4 {
        0 => vec![0.0; 4],
        count => noise(7, count),
    };
    let mut running = config.initial_running();
    running.resize(running.len().max(4), 0);
    let (blank, mut affine_bytes) = (vec![0u8; tensor(1).len()], Vec::new());
    affine_bytes.extend_from_slice(bytemuck::cast_slice(&affine));
    vec![
        ("x", tensor(1)),
        ("residual", tensor(2)),
        ("dy", tensor(3)),
        ("y", blank.clone()),
        ("output", blank.clone()),
        ("dx", blank.clone()),
        ("dresidual", blank),
        ("grads", affine_bytes.clone()),
        ("affine", affine_bytes),
        ("running", bytemuck::cast_slice(&running).to_vec()),
        ("saved", vec![0; 12 * channels]),
        ("scratch", vec![0; scratch.max(16) as usize]),
    ]
}

/// Copies a slice over another of its size.
fn copy(gpu: &Gpu, memory: &Memory, from: &str, to: &str) {
    let values = gpu.read_f32(memory.slice(from)).unwrap();
    gpu.write_f32(memory.slice(to), &values).unwrap();
}

const RESULTS: [&str; 6] = ["y", "saved", "running", "dx", "grads", "dresidual"];

/// Runs training and backward by plans.
fn by_plans(
    gpu: &Gpu,
    memory: &Memory,
    train: &TrainPlan,
    backward: &BackwardPlan,
    adds: bool,
) -> Vec<Vec<u32>> {
    let submit = |step: wgpu_norm::batch_norm::Step| {
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        step.encode(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
    };
    let added = |name| adds.then(|| memory.slice(name));
    let buffers = TrainBuffers::new(memory.slice("x"), memory.slice("y"), memory.slice("saved"))
        .affine(memory.some("affine", train.affine_bytes()))
        .running(memory.some("running", train.running_bytes()))
        .residual(added("residual"))
        .scratch(memory.slice("scratch"));
    submit(train.bind(&buffers).unwrap());
    copy(gpu, memory, "y", "output");
    let buffers = BackwardBuffers::new(memory.slice("x"), memory.slice("dy"))
        .dx(memory.slice("dx"))
        .saved(memory.some("saved", backward.saved_bytes()))
        .running(memory.some("running", backward.running_bytes()))
        .affine(memory.some("affine", backward.affine_bytes()))
        .grads(memory.some("grads", backward.grads_bytes()))
        .output(added("output"))
        .dresidual(added("dresidual"))
        .scratch(memory.slice("scratch"));
    submit(backward.bind(&buffers).unwrap());
    RESULTS.map(|name| memory.bits(gpu, name)).to_vec()
}

#[test]
fn launches_by_hand_have_the_bits_of_the_plan() {
    let gpu = gpu();
    let caps = gpu.kernels().caps();
    let plain = BatchNormConfig::new(5);
    let tuned = |strategy| Tuning::default().strategy(Some(strategy));
    let (first, last) = (Shape::nchw(3, 5, 7, 7), Shape::nhwc(4, 6, 6, 12));
    let accumulate = BackwardOptions::default().parameters(ParameterGradients::Accumulate);
    let (by_plan, mut dispatches) = (Tuning::default(), 0);
    for (problem, config, tuning, options) in [
        (Problem::from(first), plain, by_plan, accumulate),
        (
            Problem::new(last, Dtype::F16),
            BatchNormConfig::new(12)
                .epilogue(Epilogue::Relu)
                .momentum(None),
            tuned(Strategy::Split),
            BackwardOptions::default().frozen(true),
        ),
        (
            Problem::new(last, Dtype::F32),
            BatchNormConfig::new(12).affine(false),
            tuned(Strategy::Reread),
            BackwardOptions::default(),
        ),
        (
            Problem::new(first, Dtype::Bf16),
            plain
                .epilogue(Epilogue::AddRelu)
                .bias(false)
                .track_running_stats(false),
            tuned(Strategy::Split),
            BackwardOptions::default(),
        ),
    ] {
        let train_options = TrainOptions::default().tuning(tuning);
        // Where there is no choice of strategy, the default serves.
        let chosen = !options.frozen && !config.epilogue.adds();
        let options = options.tuning(if chosen { tuning } else { by_plan });
        let train =
            TrainPlan::with_options(gpu.kernels(), problem, &config, train_options).unwrap();
        let backward =
            BackwardPlan::with_options(gpu.kernels(), problem, &config, options).unwrap();
        let scratch = train.scratch_bytes().max(backward.scratch_bytes());
        let contents = contents(problem, &config, scratch);
        let memory = Memory::apart(&gpu, &contents);
        let expected = by_plans(&gpu, &memory, &train, &backward, config.epilogue.adds());

        for form in [Form::default(), Form::default().constants(true), lent()] {
            let memory = if form.read_write {
                Memory::in_one(&gpu, &contents)
            } else {
                Memory::apart(&gpu, &contents)
            };
            let launches = TrainPlan::describe(caps, problem, &config, train_options, form);
            let launches = launches.unwrap();
            assert_eq!(launches, train.launches(form), "{problem}");
            run(&gpu, &launches, form, &memory);
            copy(&gpu, &memory, "y", "output");
            dispatches += launches.len();
            let launches = BackwardPlan::describe(caps, problem, &config, options, form);
            let launches = launches.unwrap();
            assert_eq!(launches, backward.launches(form), "{problem}");
            run(&gpu, &launches, form, &memory);
            dispatches += launches.len();
            for (name, expected) in RESULTS.iter().zip(&expected) {
                let actual = memory.bits(&gpu, name);
                assert!(actual == *expected, "{name} of {problem} as {form:?}");
            }
        }
        assert!(expected[0].iter().any(|&bits| bits != 0), "{problem}");
    }
    assert!(dispatches > 24, "{dispatches}");
}

/// A plan for WebGPU's limits is made without a device, and runs on this one.
#[test]
fn a_plan_needs_no_device() {
    let caps = Caps::webgpu();
    let (shape, config) = (Shape::nhwc(8, 6, 6, 12), BatchNormConfig::new(12));
    let train = TrainOptions::default();
    for form in [Form::default(), lent()] {
        let eval = EvalPlan::describe(&caps, shape, &config, EvalOptions::default(), form);
        let options = BackwardOptions::default();
        let backward = BackwardPlan::describe(&caps, shape, &config, options, form);
        let forward = TrainPlan::describe(&caps, shape, &config, train, form);
        let instance = instance_norm::InstanceNormConfig::new(12).affine(true);
        let options = instance_norm::ForwardOptions::default();
        let instances =
            instance_norm::ForwardPlan::describe(&caps, shape, &instance, options, form);
        for launches in [eval, backward, forward, instances] {
            for launch in launches.unwrap() {
                let module = naga::front::wgsl::parse_str(&launch.wgsl);
                let module = module.unwrap_or_else(|error| panic!("{}: {error}", launch.label));
                let entry = &module.entry_points[0];
                assert_eq!(entry.name, launch.entry_point);
                assert_eq!(launch.overrides.is_empty(), module.overrides.is_empty());
                assert!(!form.constants || module.overrides.is_empty());
                assert!(!form.read_write || !launch.wgsl.contains("var<storage, read>"));
                // Every binding that the text declares is listed, in order.
                let bound = |(_, variable): (_, &naga::GlobalVariable)| variable.binding;
                let mut declared: Vec<u32> = module
                    .global_variables
                    .iter()
                    .filter_map(bound)
                    .map(|binding| binding.binding)
                    .collect();
                declared.sort_unstable();
                let listed: Vec<u32> = launch.bindings.iter().map(|b| b.binding).collect();
                assert_eq!(listed, declared, "{}", launch.label);
            }
        }
    }

    let launches = TrainPlan::describe(&caps, shape, &config, train, lent()).unwrap();
    assert!(
        launches
            .iter()
            .all(|launch| launch.label.starts_with("batch_norm."))
    );
    let line: Line = "n8c12h6w6 nhwc train".parse().unwrap();
    assert_eq!(line.launches(&caps, lent()).unwrap(), launches);
    let gpu = gpu();
    let contents = contents(shape.into(), &config, 1 << 20);
    let memory = Memory::in_one(&gpu, &contents);
    run(&gpu, &launches, lent(), &memory);
    let values = |name| -> Vec<f64> {
        let values = gpu.read_f32(memory.slice(name)).unwrap();
        values.into_iter().map(f64::from).collect()
    };
    let (x, affine) = (values("x"), values("affine"));
    let eps = f64::from(config.eps);
    let expected = oracle::train(shape, &x, Some(&affine[..12]), Some(&affine[12..]), eps);
    within("y", &values("y"), &expected.y, Bound::new(4e-6, 4e-6)).unwrap();
}

/// `describe` refuses what the plan refuses, with the same error.
#[test]
fn a_plan_that_cannot_be_is_not_described() {
    let (gpu, shape) = (gpu(), Shape::nchw(2, 4, 3, 3));
    let config = BatchNormConfig::new(5);
    let form = Form::default();
    let train = TrainPlan::describe(
        &Caps::webgpu(),
        shape,
        &config,
        TrainOptions::default(),
        form,
    );
    let plan = TrainPlan::new(gpu.kernels(), shape, &config).map(drop);
    assert_eq!(train.map(drop), plan);
    let options = EvalOptions::default().y(Destination::InPlace);
    let config = BatchNormConfig::new(4).track_running_stats(false);
    let eval = EvalPlan::describe(&Caps::webgpu(), shape, &config, options, form);
    let plan = EvalPlan::with_options(gpu.kernels(), shape, &config, options).map(drop);
    assert_eq!(eval.map(drop), plan);
}

/// The entry points that a line's plan dispatches.
fn kernels(launches: Vec<Launch>) -> Vec<&'static str> {
    launches.iter().map(|launch| launch.entry_point).collect()
}

/// Only where samples share parameters, a dispatch more adds the gradients of all samples.
#[test]
fn gradients_of_each_samples_parameters_need_no_dispatch_of_their_own() {
    let caps = Caps::webgpu();
    let instance = |line: &str| {
        let line: instance_norm::Line = line.parse().unwrap();
        kernels(line.launches(&caps, Form::default()).unwrap())
    };
    let group = |line: &str| {
        let line: group_norm::Line = line.parse().unwrap();
        kernels(line.launches(&caps, Form::default()).unwrap())
    };
    for strategy in ["resident", "reread"] {
        let kernel = format!("backward_{strategy}");
        for layout in ["nchw", "nhwc"] {
            let of = |samples: u32, word: &str| {
                instance(&format!(
                    "instance n{samples}c16h8w8 {layout} f32 backward {word} {strategy}"
                ))
            };
            assert_eq!(of(3, ""), [kernel.as_str(), "finalize"]);
            assert_eq!(of(3, "per-sample"), [kernel.as_str()]);
            assert_eq!(of(1, ""), [kernel.as_str()], "one sample shares with none");
            assert_eq!(of(3, "skip"), [kernel.as_str()], "none are wanted");
        }
    }
    let split = [
        "backward_stats",
        "finalize",
        "backward_normalize",
        "finalize",
    ];
    assert_eq!(
        instance("instance n3c16h8w8 nchw f32 backward split"),
        split
    );
    let split = instance("instance n3c16h8w8 nchw f32 backward per-sample split");
    assert_eq!(split, ["backward_stats", "finalize", "backward_normalize"]);
    let shared = group("group n3c16h8w8 nchw f32 backward groups=4");
    let own = group("group n3c16h8w8 nchw f32 backward per-sample groups=4");
    let groups = ["finalize", "backward_normalize"];
    assert_eq!(
        shared,
        [&["backward_stats", "finalize", "finalize"], &groups[..]].concat()
    );
    assert_eq!(own, [&["backward_stats", "finalize"], &groups[..]].concat());
}

/// Where samples have parameters of their own, the rows of a sample need not be a multiple of what a workgroup takes.
#[test]
fn one_kernel_takes_rows_of_any_number_in_backward() {
    let caps = Caps::webgpu();
    let layer = |line: String| {
        let line: layer_norm::Line = line.parse().unwrap();
        kernels(line.launches(&caps, Form::default()).unwrap())
    };
    for words in ["", "per-sample"] {
        for rows in [13, 196, 197, 1031] {
            let found = layer(format!(
                "layer n4c768l{rows} nlc f32 backward {words} resident"
            ));
            assert_eq!(found, ["backward_rows", "finalize"], "{rows} {words}");
        }
    }
    // A workgroup takes as many rows as a sample has, if they are few.
    let found = layer("layer n1024c4096l5 nlc f32 backward per-sample resident".to_owned());
    assert_eq!(found, ["backward_rows", "finalize"]);
    // With one row of each sample, workgroups with lanes for several rows would be mostly empty.
    let found = layer("layer n64c768l1 nlc f32 backward per-sample resident".to_owned());
    assert!(!found.contains(&"backward_rows"), "{found:?}");
}

/// Where lanes of a processor have several rows, the kernel that writes dx leaves the gradients of the parameters, too.
#[test]
fn one_kernel_takes_rows_side_by_side_in_backward() {
    let mut caps = Caps::webgpu();
    (caps.cpu, caps.lanes) = (true, 8);
    let layer = |line: &str| {
        let line: layer_norm::Line = line.parse().unwrap();
        kernels(line.launches(&caps, Form::default()).unwrap())
    };
    for words in [
        "300c8 nc f32 backward",
        "33c128 nc f32 relu backward in-place accumulate",
    ] {
        let found = layer(&format!("layer n{words} reread 8x8x4"));
        assert_eq!(found, ["backward_reread", "finalize"], "{words}");
    }
    // Not where lanes have few rows, rows of one value, samples with parameters of their own, or so many rows that lanes would
    // leave too much.
    for words in [
        "300c8 nc f32 backward reread 8x8x2",
        "300c1 nc f32 backward reread 8x8x4",
        "300c8l4 nlc f32 backward per-sample reread 8x8x4",
        "8192c8 nc f32 backward reread 8x8x4",
    ] {
        let found = layer(&format!("layer n{words}"));
        assert_eq!(found[0], "backward_stats", "{words}");
        assert!(found.contains(&"backward_reread"), "{words}");
    }
    let found = layer("layer n300c8 nc f32 backward skip reread 8x8x4");
    assert_eq!(found, ["backward_reread"]);
    let found = layer("layer n300c8 nc f32 backward no-dx reread 8x8x4");
    assert!(!found.contains(&"backward_reread"), "{found:?}");
}
