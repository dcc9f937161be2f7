//! The device of both sides.

use std::env;

use burn::tensor::Device;
use burn::tensor::wgpu::WgpuSetup;
use wgpu_norm::Gpu;

use crate::Result;

/// One device for both. burn chooses it and opens it with all that its compiler wants, and wgpu-norm is a guest on
/// it; where `WGPU_ADAPTER_NAME` names an adapter in part, as it does for [`Gpu::open`], it is opened for both.
pub fn open() -> Result<(Device, Gpu)> {
    let options = Device::wgpu_options();
    let wanted = env::var("WGPU_ADAPTER_NAME").unwrap_or_default();
    if wanted.is_empty() {
        let (device, setup) = options.init_with_setup()?;
        return Ok((device, Gpu::from_wgpu(setup.device, setup.queue)?));
    }
    let backends = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY);
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    let instance = wgpu::Instance::new(descriptor);
    let names = |adapter: &wgpu::Adapter| {
        let name = adapter.get_info().name.to_lowercase();
        name.contains(&wanted.to_lowercase())
    };
    let adapter = pollster::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .find(names)
        .ok_or_else(|| format!("no adapter is named {wanted}"))?;
    // What burn asks for where it opens the device itself.
    let request = wgpu::DeviceDescriptor {
        required_features: adapter.features() - wgpu::Features::MAPPABLE_PRIMARY_BUFFERS,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&request))?;
    let gpu = Gpu::from_wgpu(device.clone(), queue.clone())?;
    let setup = WgpuSetup {
        backend: adapter.get_info().backend,
        instance,
        adapter,
        device,
        queue,
    };
    Ok((options.setup(setup).init()?, gpu))
}
