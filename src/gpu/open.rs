//! Devices: opened by the crate, or the application's own.

use std::sync::{Arc, OnceLock};

use super::caps::Caps;
use super::guard::same;
use super::kernels::Kernels;
use super::under_way::UnderWay;
use crate::error::{Error, GpuError};

/// The device that [`Gpu::open_with`] opens.
///
/// ```no_run
/// use wgpu_norm::wgpu::{Backends, Features};
/// use wgpu_norm::{Gpu, GpuOptions};
///
/// let options = GpuOptions::default()
///     .backends(Backends::VULKAN)
///     .adapter("radeon")
///     .features(Features::PIPELINE_CACHE);
/// let gpu = Gpu::open_with(options)?;
/// # Ok::<(), wgpu_norm::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct GpuOptions {
    /// A part of the adapter's name, in upper or lower case. `None`, the default: the best adapter, discrete GPUs
    /// before integrated ones before software.
    pub adapter: Option<String>,
    /// The backends whose adapters are considered, all by default. Backends of no enabled Cargo feature have none.
    pub backends: wgpu::Backends,
    /// Features that the application needs beyond those of the crate ([`Gpu::wanted_features`] and
    /// `TIMESTAMP_QUERY`). None by default. Those that the adapter lacks are left out; see
    /// [`wgpu::Device::features`].
    pub features: wgpu::Features,
    /// The device's limits. `None`, the default: all that the adapter offers.
    pub limits: Option<wgpu::Limits>,
}

/// The backends considered by default.
const BACKENDS: wgpu::Backends = wgpu::Backends::PRIMARY.union(wgpu::Backends::GL);

impl Default for GpuOptions {
    fn default() -> Self {
        Self {
            adapter: None,
            backends: BACKENDS,
            features: wgpu::Features::empty(),
            limits: None,
        }
    }
}

impl GpuOptions {
    /// The defaults, with the environment's choices: `WGPU_BACKEND` is a list of backends, such as `vulkan,gl`, and
    /// `WGPU_ADAPTER_NAME` a part of the adapter's name.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(value: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            adapter: value("WGPU_ADAPTER_NAME").filter(|name| !name.is_empty()),
            backends: value("WGPU_BACKEND")
                .map_or(BACKENDS, |list| wgpu::Backends::from_comma_list(&list)),
            ..Self::default()
        }
    }

    /// Sets [`adapter`](Self::adapter).
    #[must_use]
    pub fn adapter(mut self, name: impl Into<String>) -> Self {
        self.adapter = Some(name.into());
        self
    }

    /// Sets [`backends`](Self::backends).
    #[must_use]
    pub fn backends(mut self, backends: wgpu::Backends) -> Self {
        self.backends = backends;
        self
    }

    /// Sets [`features`](Self::features).
    #[must_use]
    pub fn features(mut self, features: wgpu::Features) -> Self {
        self.features = features;
        self
    }

    /// Sets [`limits`](Self::limits), which [`Gpu::required_limits`] must not exceed.
    #[must_use]
    pub fn limits(mut self, limits: wgpu::Limits) -> Self {
        self.limits = Some(limits);
        self
    }
}

/// A device, its queue and its compiled kernels. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Gpu {
    queue: wgpu::Queue,
    kernels: Kernels,
    under_way: Arc<UnderWay>,
}

impl Gpu {
    /// Opens a device as the environment asks: [`open_with`](Self::open_with) the options
    /// [`from_env`](GpuOptions::from_env).
    ///
    /// An application that has a device already passes it to [`from_wgpu`](Self::from_wgpu) instead. The device that is
    /// opened here belongs to another `wgpu::Instance` than the application's, and wgpu tells buffers apart by numbers that
    /// are unique within an instance only: a buffer of the application's device can pass for one of this device, and be read
    /// or overwritten in its place. A [`Tensor`](crate::Tensor) knows its device, and is refused.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub fn open() -> Result<Self, Error> {
        Self::open_with(GpuOptions::from_env())
    }

    /// [`open`](Self::open) as a future.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub async fn open_async() -> Result<Self, Error> {
        Self::open_with_async(GpuOptions::from_env()).await
    }

    /// Opens a device.
    ///
    /// All devices opened so share one wgpu instance. If `WGPU_BACKEND` is set, the instance has the backends named
    /// there and those of the first call's options, and later calls find adapters of no others. Its flags are wgpu's:
    /// validation layers and names for debuggers in builds with debug assertions, unless `WGPU_VALIDATION` or
    /// `WGPU_DEBUG` says otherwise.
    ///
    /// # Errors
    /// [`GpuError::NoBackend`], [`GpuError::NoAdapter`], [`GpuError::AdapterName`] or [`GpuError::NoDevice`], which say what was found and
    /// what to install; [`PlanError::Limit`](crate::PlanError::Limit) for limits below
    /// [`required_limits`](Self::required_limits).
    pub fn open_with(options: GpuOptions) -> Result<Self, Error> {
        pollster::block_on(Self::open_with_async(options))
    }

    /// [`open_with`](Self::open_with) as a future.
    ///
    /// # Errors
    /// As [`open_with`](Self::open_with).
    pub async fn open_with_async(options: GpuOptions) -> Result<Self, Error> {
        let backends = options.backends;
        if backends.is_empty() {
            let variable = std::env::var("WGPU_BACKEND").unwrap_or_default();
            return Err(GpuError::NoBackend { variable }.into());
        }
        let adapters = instance(backends).enumerate_adapters(backends).await;
        let adapter = choose(adapters, backends, options.adapter)?;
        let wanted = Self::wanted_features() | wgpu::Features::TIMESTAMP_QUERY | options.features;
        let (device, queue) = adapter
            .request_device(&wgpu::DeviceDescriptor {
                label: Some("wgpu_norm"),
                required_features: adapter.features() & wanted,
                required_limits: options.limits.unwrap_or_else(|| adapter.limits()),
                ..Default::default()
            })
            .await
            .map_err(|error| GpuError::NoDevice {
                adapter: describe(&adapter.get_info()),
                message: error.to_string(),
            })?;
        Self::from_wgpu(device, queue)
    }

    /// Works on the application's own device and its queue. Neither is changed: the crate sets no callback and no
    /// error handler. Buffers of the device may be bound to plans.
    ///
    /// The queue must be the device's own. wgpu tells no queue's device: with another one, the first upload is
    /// refused, or dropped if that other device has an error handler of its own.
    ///
    /// # Errors
    /// [`PlanError::Limit`](crate::PlanError::Limit) if the device's limits are below
    /// [`required_limits`](Self::required_limits).
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Result<Self, Error> {
        Ok(Self::from_kernels(Kernels::new(&device)?, queue))
    }

    /// Works with kernels made before, such as those of [`Kernels::with_cache`], and the queue of their device.
    pub fn from_kernels(kernels: Kernels, queue: wgpu::Queue) -> Self {
        Self {
            kernels: kernels.with_queue(&queue),
            queue,
            under_way: Arc::default(),
        }
    }

    /// The lowest limits that all kernels run with, for the application's `DeviceDescriptor`. WebGPU's default limits
    /// suffice. Tensors above `max_storage_buffer_binding_size` are bound in windows, so it need not be raised. Workgroups of 512
    /// lanes, which hold larger units in registers, want `max_compute_invocations_per_workgroup` and
    /// `max_compute_workgroup_size_x` of 512 and `max_compute_workgroup_storage_size` of 32,768.
    pub fn required_limits() -> wgpu::Limits {
        wgpu::Limits {
            max_storage_buffers_per_shader_stage: Caps::STORAGE_BUFFERS,
            max_compute_workgroup_storage_size: Caps::WORKGROUP_MEMORY,
            ..wgpu::Limits::default()
        }
    }

    /// Optional features that make kernels faster, for the application's `DeviceDescriptor` where the adapter offers
    /// them: [`SHADER_INT64`](wgpu::Features::SHADER_INT64), for f32 on software adapters, and
    /// [`SHADER_F16`](wgpu::Features::SHADER_F16), for f16 on GPUs.
    pub fn wanted_features() -> wgpu::Features {
        wgpu::Features::SHADER_INT64 | wgpu::Features::SHADER_F16
    }

    /// The device.
    pub fn device(&self) -> &wgpu::Device {
        self.kernels.device()
    }

    /// The queue.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The compiled kernels, which plans are made with.
    pub fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    pub(super) fn under_way(&self) -> &UnderWay {
        &self.under_way
    }

    /// Whether both have the same device.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.kernels.is_clone_of(&other.kernels) || same(self.device(), other.device())
    }

    /// The names of adapter, backend and driver, for reports.
    pub fn adapter_name(&self) -> String {
        describe(&self.device().adapter_info())
    }
}

/// The instance of all devices that the crate opens, made by the first call. There is only one, because wgpu
/// compares devices and buffers by numbers that are unique within an instance: with two instances, a buffer could pass
/// for another one.
fn instance(backends: wgpu::Backends) -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        // An application that sets WGPU_BACKEND may do so because another backend's driver crashes.
        descriptor.backends = wgpu::Backends::from_env().unwrap_or(BACKENDS) | backends;
        descriptor.flags = descriptor.flags.with_env();
        wgpu::Instance::new(descriptor)
    })
}

/// The adapter with `wanted` in its name, or else the best one.
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

/// A device for each thread of this crate's tests, because a software device compiles its kernels on one thread. A
/// machine without one fails them. Leaked: a thread's last moments are no place to close a device.
#[cfg(test)]
pub fn test_gpu() -> &'static Gpu {
    thread_local! {
        static GPU: &'static Gpu = Box::leak(Box::new(
            Gpu::open().unwrap_or_else(|error| panic!("the tests need a GPU: {error}")),
        ));
    }
    GPU.with(|gpu| *gpu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PlanError;

    #[test]
    fn the_environment_chooses_backends_and_adapter() {
        let options = GpuOptions::from_variables(|name| {
            let value = match name {
                "WGPU_BACKEND" => "vulkan,gl",
                "WGPU_ADAPTER_NAME" => "Radeon",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let expected = GpuOptions::default()
            .backends(wgpu::Backends::VULKAN | wgpu::Backends::GL)
            .adapter("Radeon");
        assert_eq!(options, expected);
        let unset = |name: &str| (name == "WGPU_ADAPTER_NAME").then(String::new);
        assert_eq!(GpuOptions::from_variables(unset), GpuOptions::default());
    }

    #[test]
    fn an_adapter_is_found_by_a_part_of_its_name() {
        let name = test_gpu().device().adapter_info().name;
        let part = name.chars().take(5).collect::<String>().to_uppercase();
        let gpu = Gpu::open_with(GpuOptions::from_env().adapter(part)).unwrap();
        assert_eq!(gpu.device().adapter_info().name, name);
        let error = Gpu::open_with(GpuOptions::from_env().adapter("no such adapter")).unwrap_err();
        let message = error.to_string();
        assert!(
            matches!(error, Error::Gpu(GpuError::AdapterName { .. })),
            "{message}"
        );
        assert!(message.contains(&name), "{message}");
    }

    #[test]
    fn a_device_has_the_limits_and_features_asked_for() {
        let feature = wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let limits = wgpu::Limits {
            max_bind_groups: 2,
            ..Gpu::required_limits()
        };
        let options = GpuOptions::from_env().features(feature).limits(limits);
        let gpu = Gpu::open_with(options).unwrap();
        assert_eq!(gpu.device().limits().max_bind_groups, 2);
        let info = gpu.device().adapter_info();
        let adapters = instance(BACKENDS).enumerate_adapters(wgpu::Backends::all());
        let offered = pollster::block_on(adapters)
            .iter()
            .find(|adapter| adapter.get_info() == info)
            .map(wgpu::Adapter::features)
            .unwrap();
        let ours = Gpu::wanted_features() | wgpu::Features::TIMESTAMP_QUERY;
        assert_eq!(gpu.device().features(), offered & (ours | feature));
        assert_eq!(test_gpu().device().features(), offered & ours);

        let mut low = Gpu::required_limits();
        low.max_compute_workgroup_storage_size = 64;
        let error = Gpu::open_with(GpuOptions::from_env().limits(low)).unwrap_err();
        assert!(
            matches!(error, Error::Plan(PlanError::Limit { needed: 16384, .. })),
            "{error}"
        );
        let mut high = Gpu::required_limits();
        high.max_bind_groups = u32::MAX;
        let error = Gpu::open_with(GpuOptions::from_env().limits(high)).unwrap_err();
        assert!(
            matches!(error, Error::Gpu(GpuError::NoDevice { .. })),
            "{error}"
        );
    }
}
