//! A layer learns the weight and bias of another one. The loss is on the host, the optimizer is `layer_sgd.wgsl`.
//!
//! `cargo run --example layer_sgd`

use anyhow::Context;
use wgpu_norm::{BatchNormConfig, Gpu, Shape, wgpu};

fn main() -> anyhow::Result<()> {
    let gpu = Gpu::open()?;
    let (device, queue) = (gpu.device(), gpu.queue());
    let (config, shape) = (BatchNormConfig::new(4), Shape::nchw(8, 4, 16, 16));
    let values: Vec<f32> = (0..8192).map(|i| (i * 37 % 101) as f32).collect();
    let x = gpu.tensor(shape, &values)?;
    let mut teacher = config.build(&gpu)?;
    teacher.set_weight(&[2.0, -1.0, 0.5, 3.0])?;
    teacher.set_bias(&[0.0, 1.0, -2.0, 0.5])?;
    let target = teacher.train(&x)?.0.read()?;

    let mut bn = config.build(&gpu)?; // weight 1, bias 0
    let sgd = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None, // as the kernel declares its buffers
        module: &device.create_shader_module(wgpu::include_wgsl!("layer_sgd.wgsl")),
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let mut losses = Vec::new();
    for step in 0..12 {
        let (y, saved) = bn.train(&x)?;
        // The squared error, averaged over the 2048 values of a channel, and its gradient.
        let errors: Vec<f32> = y.read()?.iter().zip(&target).map(|(y, t)| y - t).collect();
        losses.push(errors.iter().map(|e| e * e).sum::<f32>() / 2048.0);
        let dy: Vec<f32> = errors.iter().map(|e| 2.0 * e / 2048.0).collect();
        let gradients = bn.backward(saved, &gpu.tensor(shape, &dy)?)?;

        let buffers = bn.affine_buffer().zip(gradients.buffer());
        let (affine, grads) = buffers.context("a layer without parameters")?;
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &sgd.get_bind_group_layout(0),
            entries: &[(0, affine), (1, grads)].map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            }),
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&sgd);
        pass.set_bind_group(0, &bindings, &[]);
        pass.dispatch_workgroups(1, 1, 1); // of 64 invocations, for 8 values
        drop(pass);
        queue.submit([encoder.finish()]);
        println!("step {step:2}  loss {:.6}", losses[step]);
    }
    println!("{:.3?}", bn.state()?);
    assert!(losses[11] < 1e-3 * losses[0], "the loss has not fallen");
    Ok(())
}
