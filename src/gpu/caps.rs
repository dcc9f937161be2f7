//! What a device can do, as far as plans depend on it.

use std::thread;

use crate::error::PlanError;

/// The properties of a device that a plan is a function of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caps {
    /// A software adapter: workgroups are dear, memory is cached, lanes run one group after another.
    pub cpu: bool,
    /// Processor cores, if it is one.
    pub cores: u32,
    /// Whether kernels address f32 activations in words of 64 bits: for software adapters, which load and store
    /// word by word, on devices with [`wgpu::Features::SHADER_INT64`].
    pub wide_words: bool,
    /// Invocations that the hardware runs together.
    pub lanes: u32,
    /// The most invocations in a workgroup.
    pub max_workgroup: u32,
    /// The most workgroups in one dimension of a grid.
    pub max_groups: u32,
    /// The largest storage binding, in bytes.
    pub max_binding: u64,
    /// What the offset of a storage binding must be a multiple of.
    pub storage_alignment: u64,
    /// What the offset of a uniform binding must be a multiple of.
    pub uniform_alignment: u64,
}

impl Caps {
    /// Storage buffers that the largest kernel binds. One is kept free, because Metal adds one.
    pub const STORAGE_BUFFERS: u32 = 7;
    /// Workgroup memory of the largest kernel, in bytes: 256 partial moments of 64 bytes.
    pub const WORKGROUP_MEMORY: u32 = 16384;

    /// Reads a device's properties.
    ///
    /// # Errors
    /// [`PlanError::Limit`] for a device on which no kernel can run.
    pub fn of(device: &wgpu::Device) -> Result<Self, PlanError> {
        let limits = device.limits();
        let info = device.adapter_info();
        let wants = [
            (
                "max_storage_buffers_per_shader_stage",
                Self::STORAGE_BUFFERS,
                limits.max_storage_buffers_per_shader_stage,
            ),
            (
                "max_compute_workgroup_storage_size",
                Self::WORKGROUP_MEMORY,
                limits.max_compute_workgroup_storage_size,
            ),
            (
                "max_compute_invocations_per_workgroup",
                64,
                limits.max_compute_invocations_per_workgroup,
            ),
            (
                "max_compute_workgroup_size_x",
                64,
                limits.max_compute_workgroup_size_x,
            ),
            (
                "max_compute_workgroups_per_dimension",
                1,
                limits.max_compute_workgroups_per_dimension,
            ),
            (
                "max_uniform_buffers_per_shader_stage",
                1,
                limits.max_uniform_buffers_per_shader_stage,
            ),
            ("max_bind_groups", 1, limits.max_bind_groups),
        ];
        for (limit, needed, available) in wants {
            if available < needed {
                return Err(PlanError::Limit {
                    limit,
                    needed: needed.into(),
                    available: available.into(),
                });
            }
        }
        let max_binding = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size);
        if max_binding < 1024 {
            return Err(PlanError::Limit {
                limit: "max_storage_buffer_binding_size",
                needed: 1024,
                available: max_binding,
            });
        }
        let largest_workgroup = limits
            .max_compute_invocations_per_workgroup
            .min(limits.max_compute_workgroup_size_x)
            .min(256);
        let cpu = info.device_type == wgpu::DeviceType::Cpu;
        Ok(Self {
            cpu,
            cores: thread::available_parallelism().map_or(1, |n| n.get().min(64) as u32),
            wide_words: cpu && device.features().contains(wgpu::Features::SHADER_INT64),
            lanes: match info.subgroup_min_size {
                // Metal and browsers do not say.
                0 => 32,
                size => size.clamp(4, 64).next_power_of_two(),
            },
            max_workgroup: previous_power_of_two(largest_workgroup),
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_binding,
            storage_alignment: limits.min_storage_buffer_offset_alignment.into(),
            uniform_alignment: limits.min_uniform_buffer_offset_alignment.into(),
        })
    }
}

/// The largest power of two that is not above `n`; `n` is not zero.
fn previous_power_of_two(n: u32) -> u32 {
    1 << n.ilog2()
}
