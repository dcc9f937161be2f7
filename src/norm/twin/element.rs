//! Tests of `element_f16.wgsl` and `element_bf16.wgsl`, value by value.

use crate::dtype::Dtype;
use crate::gpu::compose::{Form, Source, compose};
use crate::gpu::test_gpu;
use crate::norm::sources::SOURCES;

/// Reads every vector, and stores it again.
const CONVERT: &[Source] = &[Source {
    name: "convert",
    text: "#import element
@group(0) @binding(0) var<storage, read> stored: array<StorageVector>;
@group(0) @binding(1) var<storage, read> values: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> decoded: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> encoded: array<StorageVector>;
@compute @workgroup_size(64)
fn convert(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&stored) {
        decoded[id.x] = bitcast<vec4<u32>>(decode(stored[id.x]));
    }
    if id.x < arrayLength(&values) {
        encoded[id.x] = encode(bitcast<vec4<f32>>(values[id.x]));
    }
}
",
}];

/// What the device decodes the words to, and what it encodes the values to.
fn convert(dtype: Dtype, words: &[u32], values: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let gpu = test_gpu();
    let device = gpu.device();
    let element = format!("element_{dtype}");
    let file = SOURCES
        .iter()
        .find(|source| source.name == element)
        .expect("a file");
    let text = compose("convert", &[SOURCES, CONVERT], &[("element", file.name)])
        .and_then(|composed| composed.wgsl(&[], Form::default()))
        .expect("a kernel");
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: None,
        source: wgpu::ShaderSource::Wgsl(text.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: Default::default(),
        cache: None,
    });
    let upload = |contents: &[u32]| {
        wgpu::util::DeviceExt::create_buffer_init(
            device,
            &wgpu::util::BufferInitDescriptor {
                label: None,
                contents: bytemuck::cast_slice(contents),
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC,
            },
        )
    };
    let (decoded, encoded) = (vec![0; 2 * words.len()], vec![0; values.len() / 2]);
    let buffers = [words, values, &decoded, &encoded].map(upload);
    let entries: Vec<_> = (0..)
        .zip(&buffers)
        .map(|(binding, buffer)| wgpu::BindGroupEntry {
            binding,
            resource: buffer.as_entire_binding(),
        })
        .collect();
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(
            (words.len() / 2).max(values.len() / 4).div_ceil(64) as u32,
            1,
            1,
        );
    }
    gpu.queue().submit([encoder.finish()]);
    let read = |buffer, count| gpu.read_buffer(buffer, 0, count).expect("the test device");
    (
        read(&buffers[2], decoded.len()),
        read(&buffers[3], encoded.len()),
    )
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Around every value of the type and every middle between two of them, and bits at random.
fn interesting(dtype: Dtype, all: &[u32]) -> Vec<f32> {
    let mut values = Vec::new();
    for pair in dtype.of_words(all, 2 * all.len()).windows(2) {
        let middle = 0.5 * (pair[0] + pair[1]);
        for bits in [pair[0].to_bits(), middle.to_bits()] {
            values.extend([bits.wrapping_sub(1), bits, bits.wrapping_add(1)].map(f32::from_bits));
        }
    }
    let mut state = 1u32;
    values.extend((0..1 << 18).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits(state.rotate_left(7))
    }));
    values.extend([
        65_504.0,
        65_519.9,
        65_520.0,
        65_536.0,
        1e30,
        f32::MAX,
        f32::INFINITY,
        f32::NAN,
    ]);
    values.resize(values.len().next_multiple_of(4), 0.0);
    values
}

#[test]
fn every_value_is_decoded_and_rounded_as_ieee_754_wants() {
    for dtype in [Dtype::F16, Dtype::Bf16] {
        let all: Vec<u32> = (0..1u32 << 15)
            .map(|i| (2 * i) | ((2 * i + 1) << 16))
            .collect();
        let values = interesting(dtype, &all);
        let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        let (decoded, encoded) = convert(dtype, &all, &bits);

        let expected = dtype.of_words(&all, 1 << 16);
        for (bits, expected) in decoded.iter().zip(expected) {
            // WGSL may flush what is subnormal in f32, which of bf16 alone there is.
            let flushed = expected.is_subnormal() && f32::from_bits(*bits) == 0.0;
            assert!(
                same(f32::from_bits(*bits), expected) || flushed,
                "{dtype}: {expected:e}"
            );
        }
        let expected = dtype.of_words(&dtype.to_words(&values), values.len());
        let encoded = dtype.of_words(&encoded, values.len());
        for ((value, actual), expected) in values.iter().zip(encoded).zip(expected) {
            let flushed = value.is_subnormal() && actual == 0.0;
            assert!(
                same(actual, expected) || flushed,
                "{dtype}: {value:e} to {actual:e}, not {expected:e}"
            );
        }
    }
}
