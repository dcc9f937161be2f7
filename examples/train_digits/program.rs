//! GPU work that is bound once and recorded again for every batch.

use bytemuck::Pod;
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu::{Buffer, BufferUsages};
use wgpu_norm::batch_norm::Step;
use wgpu_norm::{Dtype, Gpu};

/// Invocations in a workgroup, in every shader of this example.
const WORKGROUP: usize = 64;

/// The declarations of `Stored`, `load` and `store`, with which a shader's text begins.
pub fn stored(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F32 => include_str!("shaders/stored_f32.wgsl"),
        Dtype::F16 => include_str!("shaders/stored_f16.wgsl"),
        Dtype::Bf16 => include_str!("shaders/stored_bf16.wgsl"),
        other => unimplemented!("a shader for {other}"),
    }
}

/// Commands in the order in which they run on one batch.
pub struct Program {
    gpu: Gpu,
    batch: usize,
    commands: Vec<Command>,
}

enum Command {
    Dispatch {
        pipeline: wgpu::ComputePipeline,
        bindings: wgpu::BindGroup,
        workgroups: u32,
    },
    Norm(Step),
}

impl Program {
    /// An empty program for batches of `batch` images.
    pub fn new(gpu: &Gpu, batch: usize) -> Self {
        Self {
            gpu: gpu.clone(),
            batch,
            commands: Vec::new(),
        }
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub fn batch(&self) -> usize {
        self.batch
    }

    /// A buffer for `elements` values that the program computes.
    pub fn buffer(&self, elements: usize) -> Buffer {
        storage(&self.gpu, size_of::<f32>() as u64 * elements as u64)
    }

    /// A buffer for `elements` values that the program computes and stores as `dtype`.
    pub fn stored_buffer(&self, dtype: Dtype, elements: usize) -> Buffer {
        storage(&self.gpu, dtype.buffer_bytes(elements))
    }

    /// Appends a shader with its overrides set to `constants` and its bindings to `buffers`, in order.
    pub fn dispatch(
        &mut self,
        shader: &str,
        constants: &[(&str, f64)],
        buffers: &[&Buffer],
        invocations: usize,
    ) {
        let device = self.gpu.device();
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: None,
            source: wgpu::ShaderSource::Wgsl(shader.into()),
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                ..Default::default()
            },
            cache: None,
        });
        let entries: Vec<_> = (0..)
            .zip(buffers)
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        self.commands.push(Command::Dispatch {
            pipeline,
            bindings,
            workgroups: invocations.div_ceil(WORKGROUP) as u32,
        });
    }

    /// Appends a step of the library.
    pub fn norm(&mut self, step: Step) {
        self.commands.push(Command::Norm(step));
    }

    /// Runs the program on the GPU in one submission, without waiting for it.
    pub fn submit(&self) {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for command in &self.commands {
            match command {
                Command::Dispatch {
                    pipeline,
                    bindings,
                    workgroups,
                } => {
                    pass.set_pipeline(pipeline);
                    pass.set_bind_group(0, bindings, &[]);
                    pass.dispatch_workgroups(*workgroups, 1, 1);
                }
                Command::Norm(step) => step.record(&mut pass),
            }
        }
        // The encoder can be finished only when the pass is.
        drop(pass);
        self.gpu.queue().submit([encoder.finish()]);
    }
}

const STORAGE: BufferUsages = BufferUsages::STORAGE
    .union(BufferUsages::COPY_SRC)
    .union(BufferUsages::COPY_DST);

/// A buffer of zeros.
pub fn storage(gpu: &Gpu, bytes: u64) -> Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: bytes,
        usage: STORAGE,
        mapped_at_creation: false,
    })
}

/// A buffer with `values` in it.
pub fn upload<T: Pod>(gpu: &Gpu, values: &[T]) -> Buffer {
    gpu.device().create_buffer_init(&BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(values),
        usage: STORAGE,
    })
}

/// Waits for the GPU and returns what `buffer` holds.
pub fn download<T: Pod>(gpu: &Gpu, buffer: &Buffer) -> anyhow::Result<Vec<T>> {
    let staging = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffer.size(),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, buffer.size());
    gpu.queue().submit([encoder.finish()]);
    // Whether the mapping failed is what get_mapped_range tells.
    staging.map_async(wgpu::MapMode::Read, .., |_| {});
    gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
    let view = staging.get_mapped_range(..)?;
    Ok(bytemuck::pod_collect_to_vec(&view))
}
