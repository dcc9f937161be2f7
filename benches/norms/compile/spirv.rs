//! The SPIR-V that a Vulkan driver gets of a kernel: by the compiler and the options of wgpu, as the crate asks for them.

use anyhow::anyhow;
use naga::back::{pipeline_constants::process_overrides, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{ShaderStage, front::wgsl};
use wgpu_norm::Launch;

pub fn of(launch: &Launch) -> anyhow::Result<Vec<u32>> {
    let module =
        wgsl::parse_str(&launch.wgsl).map_err(|e| anyhow!(e.emit_to_string(&launch.wgsl)))?;
    let mut validator = Validator::new(
        ValidationFlags::all(),
        Capabilities::SHADER_FLOAT16_IN_FLOAT32 | Capabilities::SHADER_FLOAT16,
    );
    let info = validator.validate(&module)?;
    let overrides = launch.overrides.iter();
    let constants = overrides
        .map(|&(name, value)| (name.to_owned(), value.into()))
        .collect();
    let entry = Some((ShaderStage::Compute, launch.entry_point));
    let (module, info) = process_overrides(&module, &info, entry, &constants)?;
    // Vulkan drivers check what goes to buffers themselves, and the crate's loops end: it says so to wgpu.
    let unchecked = BoundsCheckPolicy::Unchecked;
    let options = spv::Options {
        lang_version: (1, 5),
        flags: spv::WriterFlags::LABEL_VARYINGS,
        bounds_check_policies: BoundsCheckPolicies {
            index: unchecked,
            buffer: unchecked,
            image_load: unchecked,
            binding_array: unchecked,
        },
        zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::Native,
        force_loop_bounding: false,
        ..spv::Options::default()
    };
    let pipeline = spv::PipelineOptions {
        shader_stage: ShaderStage::Compute,
        entry_point: launch.entry_point.to_owned(),
    };
    Ok(spv::write_vec(&module, &info, &options, Some(&pipeline))?)
}
