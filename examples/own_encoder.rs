//! BatchNorm as a guest: the application owns device, queue, buffers and encoder, and the library only adds its
//! dispatches between the application's own.
//!
//! `cargo run --example own_encoder`

use wgpu::BufferUsages;
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_norm::batch_norm::{BackwardBuffers, BackwardPlan, TrainBuffers, TrainPlan};
use wgpu_norm::{BatchNormConfig, Gpu, Kernels, Shape};

/// The application's own kernel: doubles the values in place.
const DOUBLE: &str = "
@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@compute @workgroup_size(64)
fn double(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&values) {
        values[id.x] *= 2.0;
    }
}";

fn main() -> anyhow::Result<()> {
    // The application's device, made in its own way. Limits that its BatchNorm needs are merged in.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&Default::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & Gpu::wanted_features(),
        required_limits: Gpu::required_limits(),
        ..Default::default()
    }))?;

    // Once a device, once a shape.
    let kernels = Kernels::new(&device)?;
    let (shape, config) = (Shape::nchw(2, 3, 4, 4), BatchNormConfig::new(3));
    let train = TrainPlan::new(&kernels, shape, &config)?;
    let backward = BackwardPlan::new(&kernels, shape, &config)?;

    // The application's buffers. Plans say how large they must be.
    let upload = |contents: &[u8]| {
        device.create_buffer_init(&BufferInitDescriptor {
            label: None,
            contents,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
        })
    };
    let blank = |size: u64| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: size.max(16),
            usage: BufferUsages::STORAGE | BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        })
    };
    let values: Vec<f32> = (0..96).map(|i| (i * 37 % 101) as f32).collect();
    let x = upload(bytemuck::cast_slice(&values));
    let affine = upload(bytemuck::cast_slice(&config.initial_affine()));
    let running = upload(bytemuck::cast_slice(&config.initial_running()));
    let (y, dx) = (
        blank(train.activation_bytes()),
        blank(train.activation_bytes()),
    );
    let (saved, grads) = (blank(train.saved_bytes()), blank(backward.grads_bytes()));
    // Scratch memory holds nothing between two steps, so that both may use the same.
    let scratch = blank(train.scratch_bytes().max(backward.scratch_bytes()));

    // What every plan needs goes into new; what this configuration needs besides is named.
    let train = train.bind(
        &TrainBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
            .affine(affine.slice(..))
            .running(running.slice(..))
            .scratch(scratch.slice(..)),
    )?;
    let backward = backward.bind(
        &BackwardBuffers::new(x.slice(..), y.slice(..))
            .dx(dx.slice(..))
            .saved(saved.slice(..))
            .affine(affine.slice(..))
            .grads(grads.slice(..))
            .scratch(scratch.slice(..)),
    )?;

    // One encoder, one pass, one submission: forward, the application's kernel, backward.
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(DOUBLE.into()),
    });
    let double = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let doubled = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &double.get_bind_group_layout(0),
        entries: &[wgpu::BindGroupEntry {
            binding: 0,
            resource: y.as_entire_binding(),
        }],
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        train.record(&mut pass);
        pass.set_pipeline(&double);
        pass.set_bind_group(0, &doubled, &[]);
        pass.dispatch_workgroups(2, 1, 1);
        backward.record(&mut pass);
    }
    queue.submit([encoder.finish()]);

    // Reading back is the application's affair too; the library's tensors are a shortcut.
    let gpu = Gpu::from_wgpu(device, queue)?;
    let y = gpu.tensor_from_buffer(shape, y)?.read()?;
    let dx = gpu.tensor_from_buffer(shape, dx)?.read()?;
    println!("{}", gpu.adapter_name());
    println!("2 y    {:6.3?} ...", &y[..6]);
    // y is a function of x that no longer changes with x's mean and scale, so that this gradient all but
    // vanishes: what is left is due to eps.
    println!(
        "dx     {:9.1e} at most",
        dx.iter().fold(0f32, |most, v| most.max(v.abs()))
    );
    println!(
        "{} + 1 + {} dispatches",
        train.dispatch_count(),
        backward.dispatch_count()
    );
    Ok(())
}
