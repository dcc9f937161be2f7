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

/// Something that the host does between two submissions.
type HostStep = Box<dyn Fn() -> anyhow::Result<()>>;

enum Command {
    Dispatch {
        pipeline: wgpu::ComputePipeline,
        bindings: wgpu::BindGroup,
        workgroups: u32,
    },
    Norm(Step),
    Host(HostStep),
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

    /// Appends what the host does when all that was appended before has been submitted.
    pub fn host(&mut self, step: impl Fn() -> anyhow::Result<()> + 'static) {
        self.commands.push(Command::Host(Box::new(step)));
    }

    /// Runs the program on the GPU without waiting for it: in one submission, if the host has nothing to do in between.
    pub fn submit(&self) -> anyhow::Result<()> {
        let ends = |command: &Command| matches!(command, Command::Host(_));
        for commands in self.commands.split_inclusive(ends) {
            self.submit_part(commands);
            if let Some(Command::Host(step)) = commands.last() {
                step()?;
            }
        }
        Ok(())
    }

    fn submit_part(&self, commands: &[Command]) {
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for command in commands {
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
                Command::Host(_) => {}
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

/// Copies what buffers hold to others of their size, after all that was submitted before.
pub fn copy(gpu: &Gpu, pairs: &[(&Buffer, &Buffer)]) {
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    for (from, to) in pairs {
        encoder.copy_buffer_to_buffer(from, 0, to, 0, to.size());
    }
    gpu.queue().submit([encoder.finish()]);
}

/// Waits for the GPU and returns what `buffer` holds.
pub fn download<T: Pod>(gpu: &Gpu, buffer: &Buffer) -> anyhow::Result<Vec<T>> {
    download_all(gpu, &[buffer])
}

/// Waits for the GPU and returns what the buffers hold, one after the other.
pub fn download_all<T: Pod>(gpu: &Gpu, buffers: &[&Buffer]) -> anyhow::Result<Vec<T>> {
    let staging = gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: buffers.iter().map(|buffer| buffer.size()).sum(),
        usage: BufferUsages::MAP_READ | BufferUsages::COPY_DST,
        mapped_at_creation: false,
    });
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let mut end = 0;
    for buffer in buffers {
        encoder.copy_buffer_to_buffer(buffer, 0, &staging, end, buffer.size());
        end += buffer.size();
    }
    gpu.queue().submit([encoder.finish()]);
    // Whether the mapping failed is what get_mapped_range tells.
    staging.map_async(wgpu::MapMode::Read, .., |_| {});
    gpu.device().poll(wgpu::PollType::wait_indefinitely())?;
    let view = staging.get_mapped_range(..)?;
    Ok(bytemuck::pod_collect_to_vec(&view))
}
