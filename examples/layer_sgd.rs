//! A training loop with a layer: BatchNorm is the library's, the loss is on the host, and the optimizer is a kernel of this
//! example. The layer learns the weight and bias of another layer from its output.
//!
//! `cargo run --example layer_sgd`

use wgpu_norm::{BatchNormConfig, Gpu, Shape, wgpu};

/// A step of gradient descent. The library packs weight and bias into one buffer, and their gradients into another with the
/// same rows, so that one kernel serves all.
const SGD: &str = "
@group(0) @binding(0) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;
@compute @workgroup_size(64)
fn sgd(@builtin(global_invocation_id) id: vec3u) {
    if id.x < arrayLength(&parameters) { parameters[id.x] -= 0.2 * gradients[id.x]; }
}";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::open()?;
    let (config, shape) = (BatchNormConfig::new(4), Shape::nchw(8, 4, 16, 16));
    let values: Vec<f32> = (0..8192).map(|i| (i * 37 % 101) as f32).collect();
    let x = gpu.tensor(shape, &values)?;
    let mut teacher = config.build(&gpu)?;
    teacher.set_weight(&[2.0, -1.0, 0.5, 3.0])?;
    teacher.set_bias(&[0.0, 1.0, -2.0, 0.5])?;
    let target = teacher.train(&x)?.0.read()?;

    let mut bn = config.build(&gpu)?; // weight 1, bias 0
    let sgd = pipeline(gpu.device());
    let mut losses = Vec::new();
    for step in 0..12 {
        let (y, saved) = bn.train(&x)?;
        // The squared error, averaged over the 2048 values of a channel, and its gradient.
        let errors: Vec<f32> = y.read()?.iter().zip(&target).map(|(y, t)| y - t).collect();
        let loss = errors.iter().map(|e| e * e).sum::<f32>() / 2048.0;
        let dy: Vec<f32> = errors.iter().map(|e| 2.0 * e / 2048.0).collect();
        let gradients = bn.backward(saved, &gpu.tensor(shape, &dy)?)?;

        let buffers = bn.affine_buffer().zip(gradients.buffer());
        let values = config.affine_rows().bytes() / 4;
        dispatch(&gpu, &sgd, buffers.ok_or("no parameters")?, values);
        println!("step {step:2}  loss {loss:.6}");
        losses.push(loss);
    }
    println!("{:.3?}", bn.state()?);
    assert!(losses[11] < 1e-3 * losses[0], "the loss has not fallen");
    Ok(())
}

fn pipeline(device: &wgpu::Device) -> wgpu::ComputePipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(SGD.into()),
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    })
}

fn dispatch(
    gpu: &Gpu,
    pipeline: &wgpu::ComputePipeline,
    (parameters, gradients): (&wgpu::Buffer, &wgpu::Buffer),
    invocations: u64,
) {
    let bindings = gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[(0, parameters), (1, gradients)].map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        }),
    });
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let mut pass = encoder.begin_compute_pass(&Default::default());
    pass.set_pipeline(pipeline);
    pass.set_bind_group(0, &bindings, &[]);
    pass.dispatch_workgroups(invocations.div_ceil(64) as u32, 1, 1);
    drop(pass);
    gpu.queue().submit([encoder.finish()]);
}
