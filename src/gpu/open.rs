//! A device to work on: one that the crate opens, or the caller's own.

use std::sync::OnceLock;

use super::caps::Caps;
use super::kernels::Kernels;
use crate::error::{Error, GpuError};

/// A device, its queue and its compiled kernels. Cheap to clone; clones share.
#[derive(Clone, Debug)]
pub struct Gpu {
    queue: wgpu::Queue,
    kernels: Kernels,
}

impl Gpu {
    /// Opens the most capable adapter, or the one that `WGPU_ADAPTER_NAME` names in part, with all that it
    /// offers: its own limits, and timestamps and integers of 64 bits where it has them. `WGPU_BACKEND` narrows the
    /// backends.
    ///
    /// # Errors
    /// [`GpuError::NoAdapter`], [`GpuError::AdapterName`] or [`GpuError::NoDevice`], which say what was
    /// found and what to install.
    pub fn open() -> Result<Self, Error> {
        pollster::block_on(Self::open_async())
    }

    /// As [`open`](Self::open), for an executor of the caller's.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_async() -> Result<Self, Error> {
        let backends =
            wgpu::Backends::from_env().unwrap_or(wgpu::Backends::PRIMARY | wgpu::Backends::GL);
        let adapters = instance(backends).enumerate_adapters(backends).await;
        let wanted = std::env::var("WGPU_ADAPTER_NAME")
            .ok()
            .filter(|name| !name.is_empty());
        let adapter = choose(adapters, backends, wanted)?;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("wgpu_norm"),
                required_features: adapter.features()
                    & (Self::wanted_features() | wgpu::Features::TIMESTAMP_QUERY),
                required_limits: adapter.limits(),
                ..Default::default()
            })
            .await
            .map_err(|error| GpuError::NoDevice {
                adapter: describe(&adapter.get_info()),
                message: error.to_string(),
            })?;
        Self::from_wgpu(device, queue)
    }

    /// Works on a device that the application has already. Nothing of it is changed: no callbacks, no
    /// error handler. Buffers of the device may be bound to plans.
    ///
    /// # Errors
    /// [`PlanError::Limit`](crate::PlanError::Limit) if its limits are too low; see
    /// [`required_limits`](Self::required_limits).
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self, Error> {
        Ok(Self {
            kernels: Kernels::new(&device)?,
            queue,
        })
    }

    /// As [`from_wgpu`](Self::from_wgpu), compiling through a cache of the driver's; see [`Kernels::with_cache`].
    ///
    /// # Errors
    /// As [`from_wgpu`](Self::from_wgpu).
    pub fn from_wgpu_with_cache(
        device: wgpu::Device,
        queue: wgpu::Queue,
        cache: wgpu::PipelineCache,
    ) -> Result<Self, Error> {
        Ok(Self {
            kernels: Kernels::with_cache(&device, Some(cache))?,
            queue,
        })
    }

    /// The least limits that every kernel works with, to be merged into a `DeviceDescriptor`. Any device
    /// with WebGPU's default limits has them. Tensors above `max_storage_buffer_binding_size` are
    /// processed in windows, so it need not be raised.
    pub fn required_limits() -> wgpu::Limits {
        wgpu::Limits {
            max_storage_buffers_per_shader_stage: Caps::STORAGE_BUFFERS,
            max_compute_workgroup_storage_size: Caps::WORKGROUP_MEMORY,
            ..wgpu::Limits::default()
        }
    }

    /// Features that kernels make use of where a device has them, to be requested where an adapter offers them:
    /// [`SHADER_INT64`](wgpu::Features::SHADER_INT64) makes f32 faster on software adapters. None is needed.
    pub fn wanted_features() -> wgpu::Features {
        wgpu::Features::SHADER_INT64
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        self.kernels.device()
    }

    /// The queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The compiled kernels, to make plans with.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Whether both are of one device.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.device() == other.device()
    }

    /// The adapter, its driver and backend, for reports.
    pub fn adapter_name(&self) -> String {
        describe(&self.device().adapter_info())
    }
}

/// The instance of all devices that the crate opens. Only buffers of one instance can be told apart by
/// their devices; among several, wgpu takes one buffer for another.
fn instance(backends: wgpu::Backends) -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        wgpu::Instance::new(descriptor)
    })
}

/// The adapter named, or the best one; hardware before software, a device of its own before a shared one.
fn choose(
    adapters: Vec<wgpu::Adapter>,
    backends: wgpu::Backends,
    wanted: Option<String>,
) -> Result<wgpu::Adapter, GpuError> {
    let infos: Vec<_> = adapters.iter().map(wgpu::Adapter::get_info).collect();
    let found = if infos.is_empty() {
        "none".to_owned()
    } else {
        infos.iter().map(describe).collect::<Vec<_>>().join("; ")
    };
    let computes = |adapter: &wgpu::Adapter| {
        adapter
            .get_downlevel_capabilities()
            .flags
            .contains(wgpu::DownlevelFlags::COMPUTE_SHADERS)
    };
    let candidates = adapters.into_iter().filter(computes);
    if let Some(wanted) = wanted {
        let lower = wanted.to_lowercase();
        return candidates
            .into_iter()
            .find(|adapter| adapter.get_info().name.to_lowercase().contains(&lower))
            .ok_or(GpuError::AdapterName { wanted, found });
    }
    candidates
        .min_by_key(|adapter| {
            let info = adapter.get_info();
            let kind = match info.device_type {
                wgpu::DeviceType::DiscreteGpu => 0,
                wgpu::DeviceType::IntegratedGpu => 1,
                wgpu::DeviceType::VirtualGpu => 2,
                wgpu::DeviceType::Other => 3,
                wgpu::DeviceType::Cpu => 4,
            };
            (kind, info.backend == wgpu::Backend::Gl)
        })
        .ok_or_else(|| GpuError::NoAdapter {
            tried: format!("{backends:?}"),
            found,
        })
}

fn describe(info: &wgpu::AdapterInfo) -> String {
    format!(
        "{} ({:?}, {} {})",
        info.name, info.backend, info.driver, info.driver_info
    )
}
