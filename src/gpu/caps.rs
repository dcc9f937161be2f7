//! The properties of a device that plans depend on.

use std::thread;

use crate::error::PlanError;
use crate::word::words;

/// The properties of a device that plans depend on: a plan is a function of the problem, the configuration and
/// these.
///
/// [`Caps::webgpu`] describes a device that is not at hand; its fields can then be assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Caps {
    /// Whether it is a software adapter: few workgroups at a time, cached memory, lanes in SIMD groups one after
    /// another.
    pub cpu: bool,
    /// Processor cores of the host, at most 64. Plans use it on software adapters only.
    pub cores: u32,
    /// Whether kernels load and store f32 activations, and load rows of weight and bias, in 64-bit words. On for software adapters with
    /// [`wgpu::Features::SHADER_INT64`], which move one word at a time.
    pub wide_words: bool,
    /// How kernels convert from and to f16. [`Caps::of`] says integers, because it does not ask the device;
    /// [`caps_for`](crate::caps_for) does.
    pub f16: F16Conversion,
    /// Invocations of a subgroup, a power of two from 4 to 64.
    pub lanes: u32,
    /// The most invocations in a workgroup, a power of two from 64 to 512.
    pub max_workgroup: u32,
    /// The most workgroups in one dimension of a grid.
    pub max_groups: u32,
    /// The largest storage binding, in bytes, at least 1024.
    pub max_binding: u64,
    /// The alignment of a storage binding's offset, in bytes.
    pub storage_alignment: u64,
    /// The alignment of a uniform binding's offset, in bytes.
    pub uniform_alignment: u64,
}

/// How kernels convert from and to f16. The results have the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum F16Conversion {
    /// By integer arithmetic, which every device does alike.
    #[default]
    Integers,
    /// By WGSL's `unpack2x16float` and `pack2x16float`, for devices on which these round as IEEE 754 does.
    Packing,
    /// By the type f16 of WGSL, for devices with [`wgpu::Features::SHADER_F16`] on which conversions round as IEEE 754 does.
    Native,
}

words!(F16Conversion, "f16 conversion", "integers, packing or native":
    Integers "integers", Packing "packing", Native "native");

/// The largest partial result: four moments.
const PARTIAL_BYTES: u32 = 64;

/// The most invocations of a workgroup that every kernel has registers for. With 1,024 a compiler for AMD's GCN spills 139
/// registers of `backward_rows` (`cargo bench -- --compile`).
const MAX_WORKGROUP: u32 = 512;

/// Subgroup size where the adapter reports none, as Metal and browsers do.
const USUAL_LANES: u32 = 32;

impl Caps {
    /// Storage buffers of the largest kernel. WebGPU guarantees eight; Metal needs one of them for itself.
    pub const STORAGE_BUFFERS: u32 = 7;
    /// One more than the largest binding number of a kernel.
    pub const BINDINGS: u32 = 18;
    /// The largest uniform of a kernel, in bytes.
    pub const UNIFORM_BYTES: u32 = 176;
    /// Workgroup memory of the largest kernel with 256 invocations, in bytes: a partial result of 64 bytes for each. More
    /// invocations want more of it.
    pub const WORKGROUP_MEMORY: u32 = 256 * PARTIAL_BYTES;

    /// A GPU with WebGPU's default limits and a subgroup of 32. Plans for it run on every GPU with these limits or
    /// higher ones.
    pub const fn webgpu() -> Self {
        let limits = wgpu::Limits::defaults();
        Self {
            cpu: false,
            cores: 1,
            wide_words: false,
            f16: F16Conversion::Integers,
            lanes: USUAL_LANES,
            max_workgroup: max_workgroup(&limits),
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_binding: max_binding(&limits),
            storage_alignment: limits.min_storage_buffer_offset_alignment as u64,
            uniform_alignment: limits.min_uniform_buffer_offset_alignment as u64,
        }
    }

    /// `bytes` rounded up to where a storage binding may begin.
    pub const fn align(&self, bytes: u64) -> u64 {
        match bytes.checked_next_multiple_of(self.storage_alignment) {
            Some(aligned) => aligned,
            None => u64::MAX,
        }
    }

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
            (
                "max_uniform_buffer_binding_size",
                Self::UNIFORM_BYTES,
                u32::try_from(limits.max_uniform_buffer_binding_size).unwrap_or(u32::MAX),
            ),
            (
                "max_bindings_per_bind_group",
                Self::BINDINGS,
                limits.max_bindings_per_bind_group,
            ),
            (
                "max_compute_workgroup_size_y",
                1,
                limits.max_compute_workgroup_size_y,
            ),
            (
                "max_compute_workgroup_size_z",
                1,
                limits.max_compute_workgroup_size_z,
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
        let max_binding = max_binding(&limits);
        if max_binding < 1024 {
            return Err(PlanError::Limit {
                limit: "max_storage_buffer_binding_size",
                needed: 1024,
                available: max_binding,
            });
        }
        let cpu = info.device_type == wgpu::DeviceType::Cpu;
        Ok(Self {
            cpu,
            cores: thread::available_parallelism().map_or(1, |n| n.get().min(64) as u32),
            wide_words: cpu && device.features().contains(wgpu::Features::SHADER_INT64),
            f16: F16Conversion::Integers,
            lanes: match info.subgroup_min_size {
                0 => USUAL_LANES,
                size => size.clamp(4, 64).next_power_of_two(),
            },
            max_workgroup: max_workgroup(&limits),
            max_groups: limits.max_compute_workgroups_per_dimension,
            max_binding,
            storage_alignment: limits.min_storage_buffer_offset_alignment.into(),
            uniform_alignment: limits.min_uniform_buffer_offset_alignment.into(),
        })
    }
}

/// The largest storage binding that fits into a buffer.
const fn max_binding(limits: &wgpu::Limits) -> u64 {
    least(
        limits.max_storage_buffer_binding_size,
        limits.max_buffer_size,
    )
}

/// The largest workgroup of kernels, the power of two at or below the limits; these are not zero.
const fn max_workgroup(limits: &wgpu::Limits) -> u32 {
    let invocations = least(
        limits.max_compute_invocations_per_workgroup as u64,
        limits.max_compute_workgroup_size_x as u64,
    );
    let memory = (limits.max_compute_workgroup_storage_size / PARTIAL_BYTES) as u64;
    1 << least(least(invocations, memory), MAX_WORKGROUP as u64).ilog2()
}

/// `u64::min` in constants.
const fn least(a: u64, b: u64) -> u64 {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webgpu_has_the_default_limits() {
        let caps = Caps::webgpu();
        assert!(!caps.cpu && !caps.wide_words);
        assert_eq!((caps.lanes, caps.max_workgroup), (32, 256));
        assert_eq!((caps.max_groups, caps.max_binding), (65_535, 1 << 27));
        assert_eq!((caps.storage_alignment, caps.uniform_alignment), (256, 256));
    }

    #[test]
    fn a_workgroup_is_a_power_of_two_within_the_limits() {
        let of = |invocations, x, memory| {
            max_workgroup(&wgpu::Limits {
                max_compute_invocations_per_workgroup: invocations,
                max_compute_workgroup_size_x: x,
                max_compute_workgroup_storage_size: memory,
                ..wgpu::Limits::default()
            })
        };
        assert_eq!(of(1024, 1024, 49_152), 512);
        assert_eq!(of(1024, 1024, 32_768), 512);
        assert_eq!(of(1024, 1024, 32_767), 256);
        assert_eq!(of(1024, 200, 32_768), 128);
        assert_eq!(of(65, 256, 16_384), 64);
    }
}
