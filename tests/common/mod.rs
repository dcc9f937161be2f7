//! What tests of the public interface share.

pub mod fixtures;
pub mod sample_norm;

use wgpu::BufferUsages;
use wgpu::util::{BufferInitDescriptor, DeviceExt};
use wgpu_norm::{Gpu, GpuOptions, Kernels, Shape, reference};

/// A device; a machine without one fails the test.
pub fn gpu() -> Gpu {
    Gpu::open().unwrap_or_else(|error| panic!("the tests need a GPU: {error}"))
}

/// The same device with other limits, so that small tensors are as large ones elsewhere.
pub fn gpu_with(change: impl FnOnce(&mut wgpu::Limits)) -> Gpu {
    let mut limits = gpu().device().limits();
    change(&mut limits);
    Gpu::open_with(GpuOptions::from_env().limits(limits)).expect("a device with such limits")
}

/// A device that computes nothing, with limits as given.
pub fn noop(limits: wgpu::Limits) -> wgpu::Device {
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

/// Kernels that no driver compiles.
pub fn noop_kernels() -> Kernels {
    Kernels::new(&noop(Gpu::required_limits())).unwrap()
}

/// `count` values in [-1, 1), which f32 represents exactly.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    reference::noise(seed, count).map(|v| v as f32).collect()
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

pub const STORAGE: BufferUsages = BufferUsages::STORAGE
    .union(BufferUsages::COPY_SRC)
    .union(BufferUsages::COPY_DST);

/// A buffer of at least so many bytes.
pub fn blank(gpu: &Gpu, bytes: u64) -> wgpu::Buffer {
    gpu.device().create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: bytes.max(16),
        usage: STORAGE,
        mapped_at_creation: false,
    })
}

/// A buffer that holds the values.
pub fn upload<T: bytemuck::Pod>(gpu: &Gpu, values: &[T]) -> wgpu::Buffer {
    gpu.device().create_buffer_init(&BufferInitDescriptor {
        label: None,
        contents: bytemuck::cast_slice(values),
        usage: STORAGE,
    })
}

/// The first values of a buffer.
pub fn download(gpu: &Gpu, buffer: &wgpu::Buffer, count: usize) -> Vec<f32> {
    let whole = count.next_multiple_of(4);
    let padded = blank(gpu, 4 * whole as u64);
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &padded, 0, 4 * count as u64);
    gpu.queue().submit([encoder.finish()]);
    let tensor = gpu
        .tensor_from_buffer(Shape::nc(1, count), padded)
        .expect("a padded buffer");
    tensor.read().expect("a device")
}
