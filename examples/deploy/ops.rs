//! The network's shaders, run at once. Each is compiled once for its constants.

use std::cell::RefCell;
use std::collections::HashMap;

use wgpu::Buffer;
use wgpu_norm::{Gpu, Shape, Tensor};

/// Invocations in a workgroup, in every shader of the network.
const WORKGROUP: usize = 64;

const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

pub struct Ops {
    pub gpu: Gpu,
    pipelines: RefCell<HashMap<String, wgpu::ComputePipeline>>,
}

impl Ops {
    pub fn new(gpu: &Gpu) -> Self {
        Self {
            gpu: gpu.clone(),
            pipelines: RefCell::default(),
        }
    }

    /// Memory for values that a shader computes; zeros at first.
    pub fn zeros(&self, values: usize) -> Buffer {
        self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: 4 * values as u64,
            usage: STORAGE,
            mapped_at_creation: false,
        })
    }

    pub fn upload<T: bytemuck::Pod>(&self, values: &[T]) -> Buffer {
        let buffer = self.zeros(size_of_val(values) / 4);
        let bytes = bytemuck::cast_slice(values);
        self.gpu.queue().write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// A buffer as the tensor that a norm takes.
    pub fn tensor(&self, shape: Shape, buffer: Buffer) -> anyhow::Result<Tensor> {
        Ok(self.gpu.tensor_from_buffer(shape, buffer)?)
    }

    /// Submits one dispatch of a shader, with its overrides set to `constants` and its bindings to `buffers`, in order.
    pub fn run(
        &self,
        shader: &str,
        constants: &[(&str, f64)],
        buffers: &[&Buffer],
        invocations: usize,
    ) {
        let device = self.gpu.device();
        let mut pipelines = self.pipelines.borrow_mut();
        let key = format!("{constants:?} {shader}");
        let pipeline = pipelines.entry(key).or_insert_with(|| {
            // Shaders that read or write what a norm does speak of `Stored`, which is f32 here.
            let stored = include_str!("../train_digits/shaders/stored_f32.wgsl");
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: None,
                source: wgpu::ShaderSource::Wgsl([stored, shader].concat().into()),
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module: &module,
                entry_point: None,
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants,
                    ..Default::default()
                },
                cache: None,
            })
        });
        let bindings = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            });
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &bindings.collect::<Vec<_>>(),
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &bindings, &[]);
        pass.dispatch_workgroups(invocations.div_ceil(WORKGROUP) as u32, 1, 1);
        drop(pass);
        self.gpu.queue().submit([encoder.finish()]);
    }
}
