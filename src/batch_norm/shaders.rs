//! Every kernel with every binding of its imports holds without an adapter: naga validates it and
//! translates it to what Vulkan, Metal and DX12 drivers are given.

use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use naga::{ShaderStage, back};

use super::cases::{CAPS, all_cases};
use super::params::Params;
use crate::gpu::compose::compose;
use crate::gpu::program::{Access, Dispatch};

/// One dispatch of each kernel as it can be compiled: with each layout, mask, statistics and workgroup.
fn variants() -> Vec<(String, Dispatch<Params>)> {
    let mut seen = std::collections::HashMap::new();
    for case in all_cases() {
        if let Some(program) = case.program(&CAPS) {
            for dispatch in &program.dispatches {
                seen.entry(dispatch.kernel.clone()).or_insert_with(|| {
                    let kernel = &dispatch.kernel;
                    let text = compose(kernel.name, program.sources, &kernel.choices);
                    (
                        text.unwrap_or_else(|e| panic!("{kernel:?}: {e}")),
                        dispatch.clone(),
                    )
                });
            }
        }
    }
    seen.into_values().collect()
}

fn validate(
    module: &naga::Module,
    capabilities: Capabilities,
) -> Result<naga::valid::ModuleInfo, String> {
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(module)
        .map_err(|e| e.emit_to_string(""))
}

#[test]
fn every_kernel_validates_and_translates_to_every_backend() {
    let variants = variants();
    assert!(variants.len() > 60, "only {} variants", variants.len());
    for (text, dispatch) in variants {
        let kernel = &dispatch.kernel;
        let module = naga::front::wgsl::parse_str(&text)
            .unwrap_or_else(|e| panic!("{kernel:?}:\n{}", e.emit_to_string(&text)));
        // Kernels need nothing that WebGPU does not promise, but for the words that only software adapters get.
        let wide = kernel.choices.contains(&("element", "element_f32_wide"));
        let capabilities = if wide {
            Capabilities::SHADER_INT64
        } else {
            Capabilities::empty()
        };
        let info = validate(&module, capabilities).unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
        let constants = kernel
            .overrides
            .iter()
            .map(|&(name, v)| (name.to_owned(), v.into()))
            .collect();
        let entry = Some((ShaderStage::Compute, kernel.name));
        let (module, info) = process_overrides(&module, &info, entry, &constants)
            .unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
        bindings_agree(&module, &dispatch);

        let pipeline = back::spv::PipelineOptions {
            shader_stage: ShaderStage::Compute,
            entry_point: kernel.name.to_owned(),
        };
        back::spv::write_vec(
            &module,
            &info,
            &back::spv::Options::default(),
            Some(&pipeline),
        )
        .unwrap_or_else(|e| panic!("{kernel:?}: SPIR-V: {e}"));
        let msl = back::msl::Options {
            fake_missing_bindings: true,
            ..Default::default()
        };
        back::msl::write_string(&module, &info, &msl, &back::msl::PipelineOptions::default())
            .unwrap_or_else(|e| panic!("{kernel:?}: MSL: {e}"));
        let hlsl = back::hlsl::Options {
            shader_model: if wide {
                back::hlsl::ShaderModel::V6_0
            } else {
                back::hlsl::ShaderModel::V5_1
            },
            fake_missing_bindings: true,
            ..Default::default()
        };
        let mut out = String::new();
        back::hlsl::Writer::new(&mut out, &hlsl, &back::hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{kernel:?}: HLSL: {e}"));
    }
}

/// The host binds as many buffers as the shader declares, in the same order, for the same access.
fn bindings_agree(module: &naga::Module, dispatch: &Dispatch<Params>) {
    let mut declared: Vec<_> = module
        .global_variables
        .iter()
        .filter_map(|(_, variable)| Some((variable.binding?.binding, variable.space)))
        .collect();
    declared.sort_by_key(|(binding, _)| *binding);
    let mut bound = vec![(0, naga::AddressSpace::Uniform)];
    bound.extend((1..).zip(&dispatch.bindings).map(|(index, binding)| {
        let access = match binding.access {
            Access::Read => naga::StorageAccess::LOAD,
            Access::Write => naga::StorageAccess::LOAD | naga::StorageAccess::STORE,
        };
        (index, naga::AddressSpace::Storage { access })
    }));
    // What a configuration leaves out may be left out of the shader too.
    let missing: Vec<_> = bound.iter().filter(|b| !declared.contains(b)).collect();
    let used = |slot: u32| slot == 0 || dispatch.bindings[slot as usize - 1].field.is_some();
    assert!(
        missing.iter().all(|(slot, _)| !used(*slot)),
        "{}: {missing:?}",
        dispatch.kernel.name
    );
    assert!(
        declared.iter().all(|d| bound.contains(d)),
        "{}: {declared:?}",
        dispatch.kernel.name
    );
}

/// The uniform has the same fields at the same offsets on both sides.
#[test]
fn the_uniform_is_laid_out_as_the_host_writes_it() {
    let (text, _) = variants().swap_remove(0);
    let module = naga::front::wgsl::parse_str(&text).expect("validated above");
    let members = |name: &str| {
        let (_, ty) = module
            .types
            .iter()
            .find(|(_, ty)| ty.name.as_deref() == Some(name))
            .expect(name);
        let naga::TypeInner::Struct { members, span } = &ty.inner else {
            panic!("{name} is a struct");
        };
        let offsets: Vec<_> = members
            .iter()
            .map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize))
            .collect();
        (offsets, *span as usize)
    };
    macro_rules! host {
        ($ty:ty: $($field:ident),+) => {
            (vec![$((stringify!($field).to_owned(), std::mem::offset_of!($ty, $field))),+], size_of::<$ty>())
        };
    }
    use crate::shared::walk::Geometry;
    assert_eq!(
        members("Geometry"),
        host!(Geometry: channels, elements, units, chunk, tile, item_begin, item_end, width,
            step, span, step_samples, step_offset, plane, vector_begin, vector_end, columns)
    );
    assert_eq!(
        members("Params"),
        host!(Params: geometry, flags, eps, momentum, count, inverse_count, partials,
            partial_components, partial_chunk, partial_plane, partial_periods, zero, padding)
    );
}

/// The flags are the same numbers on both sides.
#[test]
fn the_flags_agree() {
    use super::params::{ACCUMULATE, CUMULATIVE, HAS_BIAS, HAS_WEIGHT, PARAMETERS, TRACK};
    let text = include_str!("../../shaders/batch_norm/params.wgsl");
    for (name, value) in [
        ("HAS_WEIGHT", HAS_WEIGHT),
        ("HAS_BIAS", HAS_BIAS),
        ("TRACK", TRACK),
        ("CUMULATIVE", CUMULATIVE),
        ("PARAMETERS", PARAMETERS),
        ("ACCUMULATE", ACCUMULATE),
    ] {
        assert!(
            text.contains(&format!("const {name} = {value}u;")),
            "{name}"
        );
    }
}
