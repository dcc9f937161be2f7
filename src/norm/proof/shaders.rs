//! Every kernel with every file in its slots holds without an adapter: naga validates it, and translates it to what Vulkan,
//! Metal and DX12 drivers are given. Files say what they use, and slots have interfaces.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::Path;

use naga::back::hlsl::ShaderModel;
use naga::back::pipeline_constants::process_overrides;
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{ShaderStage, back};

use super::composed::ComposedKernels;
use super::deal::side_by_side;
use super::slots::{SLOTS, declared, file, imported};
use super::{Case, caps};
use crate::gpu::Caps;
use crate::gpu::compose::{Access, Composed, Form, Source, compose};
use crate::gpu::program::KernelSpec;
use crate::norm::partition::Geometry;
use crate::norm::planner::Norm;
use crate::norm::uniform::Reduction;

/// Each kernel as it can be compiled, once.
fn variants<C: Case>(cases: &[C]) -> Vec<(KernelSpec, Composed)> {
    let mut kernels = ComposedKernels::default();
    let mut seen = HashMap::new();
    for case in cases {
        if let Some(program) = case.program(&caps()) {
            for dispatch in &program.dispatches {
                let composed = kernels.of(&program, dispatch);
                let names: Vec<_> = program.needs.iter().map(|need| need.field.name()).collect();
                for buffer in composed
                    .bindings
                    .iter()
                    .filter(|b| b.access == Access::Write)
                {
                    // A kernel may write placeholders for gradients that nobody wants.
                    let known = names.contains(&buffer.name) || buffer.name == "grads";
                    assert!(known, "{case}: {} is in no buffers", buffer.name);
                }
                seen.entry(dispatch.kernel.reduced(composed))
                    .or_insert_with(|| composed.clone());
            }
        }
    }
    seen.into_iter().collect()
}

fn check(module: &naga::Module, capabilities: Capabilities) -> Result<ModuleInfo, String> {
    Validator::new(ValidationFlags::all(), capabilities)
        .validate(module)
        .map_err(|e| e.emit_to_string(""))
}

fn parsed(kernel: &KernelSpec, composed: &Composed, form: Form) -> naga::Module {
    let text = composed
        .wgsl(&kernel.constants, form)
        .unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
    naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{kernel:?}:\n{}", e.emit_to_string(&text)))
}

/// Validates and translates every variant, and counts them.
pub fn validate<C: Case>(cases: &[C]) -> usize {
    // Many variants differ in overrides only, and have one text.
    let mut texts = HashMap::<String, Vec<(KernelSpec, Composed)>>::new();
    for (kernel, composed) in variants(cases) {
        let text = composed.wgsl(&kernel.constants, Form::default());
        let text = text.unwrap_or_else(|e| panic!("{kernel:?}: {e}"));
        texts.entry(text).or_default().push((kernel, composed));
    }
    let texts: Vec<_> = texts.into_values().collect();
    side_by_side(&texts, |variants| {
        validate_text(variants);
        Ok(true)
    });
    texts.iter().map(Vec::len).sum()
}

/// Validates and translates one kernel without constants.
pub fn validate_kernel(
    name: &'static str,
    sources: &'static [&'static [Source]],
    choices: &[(&'static str, &'static str)],
) {
    let composed = compose(name, sources, choices).unwrap_or_else(|e| panic!("{name}: {e}"));
    let kernel = KernelSpec {
        norm: "f16",
        name,
        choices: choices.to_vec(),
        constants: Vec::new(),
    };
    validate_text(&[(kernel, composed)]);
}

/// Validates a text once, and translates it with the overrides of each of its variants.
fn validate_text(variants: &[(KernelSpec, Composed)]) {
    let (first, composed) = &variants[0];
    // Kernels need nothing that WebGPU does not promise, but for the words that only software adapters get, and the type f16.
    let has = |name| first.choices.iter().any(|(_, file)| *file == name);
    let mut capabilities = Capabilities::empty();
    let mut shader_model = ShaderModel::V5_1;
    if has("element_f32_wide") || has("affine_wide") {
        (capabilities, shader_model) = (Capabilities::SHADER_INT64, ShaderModel::V6_0);
    }
    if has("element_f16_native") {
        capabilities |= Capabilities::SHADER_FLOAT16;
        shader_model = ShaderModel::V6_2;
    }
    if has("element_f16_packing") {
        // As WebGPU's unpack2x16float and pack2x16float are.
        capabilities |= Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    }
    let storage = composed
        .bindings
        .iter()
        .filter(|b| b.access != Access::Uniform);
    assert!(
        storage.count() <= Caps::STORAGE_BUFFERS as usize,
        "{first:?}: too many buffers"
    );
    let mut numbers = composed.bindings.iter().map(|b| b.number);
    assert!(numbers.all(|n| n < Caps::BINDINGS), "{first:?}: bindings");
    let form = Form::default().constants(true).read_write(true);
    let engines = parsed(first, composed, form);
    check(&engines, capabilities).unwrap_or_else(|e| panic!("{first:?} for engines: {e}"));
    let module = parsed(first, composed, Form::default());
    let info = check(&module, capabilities).unwrap_or_else(|e| panic!("{first:?}: {e}"));
    for (kernel, composed) in variants {
        let overrides = kernel.overrides(composed).into_iter();
        let constants = overrides
            .map(|(name, v)| (name.to_owned(), v.into()))
            .collect();
        let entry = Some((ShaderStage::Compute, kernel.name));
        let (module, info) = process_overrides(&module, &info, entry, &constants)
            .unwrap_or_else(|e| panic!("{kernel:?}: {e}"));

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
            shader_model,
            fake_missing_bindings: true,
            ..Default::default()
        };
        let mut out = String::new();
        back::hlsl::Writer::new(&mut out, &hlsl, &back::hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .unwrap_or_else(|e| panic!("{kernel:?}: HLSL: {e}"));
    }
}

/// The members of a struct with their offsets, and its size.
fn members(module: &naga::Module, name: &str) -> (Vec<(String, usize)>, usize) {
    let mut types = module.types.iter().map(|(_, ty)| ty);
    let ty = types
        .find(|ty| ty.name.as_deref() == Some(name))
        .expect(name);
    let naga::TypeInner::Struct { members, span } = &ty.inner else {
        panic!("{name} is a struct");
    };
    let offsets = members
        .iter()
        .map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize))
        .collect();
    (offsets, *span as usize)
}

/// The uniform is laid out as the host writes it. `settings` are the fields of the norm's settings, of 4 bytes each.
pub fn check_layout<C: Case>(cases: &[C], settings: &[&str]) {
    let (kernel, composed) = variants(cases).swap_remove(0);
    let module = parsed(&kernel, &composed, Form::default());
    macro_rules! host {
        ($ty:ty: $($field:ident),+ $(,)?) => {
            (vec![$((stringify!($field).to_owned(), std::mem::offset_of!($ty, $field))),+], size_of::<$ty>())
        };
    }
    assert_eq!(
        members(&module, "Geometry"),
        host!(Geometry: channels, elements, units, chunk, team_items, item_begin, item_end, width, team_rows, span,
            step_samples, step_offset, plane, vector_begin, vector_end, columns, outer_units, outer_values,
            outer_items, statistics, parameters, parameter_plane, inverse_parameter_plane, saved_statistics,
            share, sample_parameters, sample_values, padding)
    );
    assert_eq!(
        members(&module, "Reduction"),
        host!(Reduction: count, inverse_count, head, chunk_stride, outer_stride, first_chunk, chunks, plane, periods,
            parts, part_stride, zero)
    );
    let (geometry, reduction) = (size_of::<Geometry>(), size_of::<Reduction>());
    assert!(size_of::<C::Settings>() + geometry + reduction <= Caps::UNIFORM_BYTES as usize);
    let offset = |name: &str, offset| (name.to_owned(), offset);
    assert_eq!(
        members(&module, "Params").0,
        [
            offset("geometry", 0),
            offset("reduction", geometry),
            offset("settings", geometry + reduction),
        ]
    );
    let expected: Vec<_> = (0..)
        .step_by(4)
        .zip(settings)
        .map(|(at, name)| offset(name, at))
        .collect();
    assert_eq!(members(&module, "Settings").0, expected);
}

/// The identifiers that a text uses, without comments, directives, members, and names that it declares inside functions.
fn used(text: &str) -> HashSet<&str> {
    let code = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split("//").next().unwrap_or(""));
    let mut used = HashSet::new();
    let mut local = HashSet::new();
    for line in code {
        let mut rest = line;
        let mut before = "";
        while let Some(begin) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
            let member = rest[..begin].ends_with('.');
            let tail = &rest[begin..];
            let end = tail.find(|c: char| !c.is_alphanumeric() && c != '_');
            let word = &tail[..end.unwrap_or(tail.len())];
            rest = &tail[word.len()..];
            let binds = ["let", "var"].contains(&before) || rest.starts_with(':');
            if binds && line.starts_with([' ', 'f']) {
                local.insert(word);
            } else if !member {
                used.insert(word);
            }
            before = word;
        }
    }
    used.retain(|word| !local.contains(word));
    used
}

/// What a file declares and imports, and what those files do. Of a slot, what all of its files declare.
fn visible<'a>(
    sources: &[&'static [Source]],
    name: &str,
    seen: &mut Vec<String>,
) -> BTreeSet<&'a str> {
    if seen.iter().any(|other| other == name) {
        return BTreeSet::new();
    }
    seen.push(name.to_owned());
    if let Some(slot) = SLOTS.iter().find(|slot| slot.name == name) {
        // Only what every file has: the interface.
        let mut common: BTreeSet<&str> = slot.declares.iter().copied().collect();
        let mut shared: Option<BTreeSet<&str>> = None;
        for stem in slot.files {
            let mut seen = seen.clone();
            let names = match file(sources, stem) {
                Some(_) => visible(sources, stem, &mut seen),
                // Another norm's.
                None => continue,
            };
            shared = Some(match shared {
                None => names,
                Some(shared) => shared.intersection(&names).copied().collect(),
            });
        }
        common.extend(shared.unwrap_or_default());
        return common;
    }
    let source = file(sources, name).unwrap_or_else(|| panic!("no file {name}"));
    let mut names: BTreeSet<&str> = declared(source.text).into_iter().collect();
    for import in imported(source.text) {
        names.extend(visible(sources, import, seen));
    }
    names
}

/// No file uses a name of another file that neither it nor its imports declare.
pub fn check_names(sources: &[&'static [Source]]) {
    let all = || sources.iter().copied().flatten();
    let anywhere: HashSet<&str> = all().flat_map(|source| declared(source.text)).collect();
    for source in all() {
        let visible = visible(sources, source.name, &mut Vec::new());
        let hidden: Vec<_> = used(source.text)
            .into_iter()
            .filter(|name| anywhere.contains(name) && !visible.contains(name))
            .collect();
        assert!(
            hidden.is_empty(),
            "{}.wgsl uses {hidden:?}, which neither it nor its imports declare",
            source.name
        );
    }
}

/// Each slot's files declare its interface, and plans bind no other files to it.
pub fn check_slots<C: Case>(norm: &Norm, cases: &[C]) {
    for slot in SLOTS {
        for name in slot.files {
            let Some(source) = file(norm.sources, name) else {
                continue;
            };
            let declared = declared(source.text);
            for wanted in slot.declares {
                assert!(declared.contains(wanted), "{name}.wgsl has no {wanted}");
            }
        }
    }
    let slot = |name: &str| SLOTS.iter().find(|slot| slot.name == name);
    for source in norm.sources.iter().copied().flatten() {
        for import in imported(source.text) {
            let known = slot(import).is_some() || file(norm.sources, import).is_some();
            assert!(
                known,
                "{}.wgsl imports {import}, which is no slot",
                source.name
            );
        }
    }
    for (kernel, _) in variants(cases) {
        for (name, file) in kernel.choices {
            let slot = slot(name).unwrap_or_else(|| panic!("{name} is no slot"));
            assert!(slot.files.contains(&file), "{file} is no file for {name}");
        }
    }
}

/// Every WGSL file of a folder is in the list of sources.
pub fn check_listed(folder: &str, sources: &[Source]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("shaders")
        .join(folder);
    let files: BTreeSet<String> = fs::read_dir(&path)
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    let listed = sources
        .iter()
        .map(|source| format!("{}.wgsl", source.name))
        .collect();
    assert_eq!(files, listed, "shaders/{folder}");
}
