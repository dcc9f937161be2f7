//! How a device converts f16. WGSL leaves the rounding of its conversions to the driver, so a device is asked once: it converts
//! all values of the type, and f32 around each of them and around each middle between two.

use crate::dtype::Dtype;
use crate::error::{Error, PlanError};
use crate::gpu::compiled::Compiled;
use crate::gpu::compose::{Source, sources};
use crate::gpu::program::{Dispatch, Field, KernelSpec, Need, Program};
use crate::gpu::{Caps, F16Conversion, Gpu, Kernels};
use crate::norm::planner::element_f16;

/// The kernel that converts, and the files that it may import.
pub const CONVERT: &[&[Source]] = &[
    sources!("f16": convert),
    sources!("norm": element_bf16, element_f16, element_f16_native, element_f16_packing),
];

const STORED: Field = Field::array("stored");
const VALUES: Field = Field::array("values");
const DECODED: Field = Field::array("decoded");
const ENCODED: Field = Field::array("encoded");
const ROUNDED: Field = Field::array("rounded");

/// The properties of a device for plans over tensors of this storage type: those of [`Kernels::caps`], with the conversion of f16
/// that its plans take ([`Kernels::with_queue`]). For callers who describe plans without making them.
pub fn caps_for(kernels: &Kernels, dtype: Dtype) -> Caps {
    let mut caps = *kernels.caps();
    // On a processor integers are as fast.
    if dtype == Dtype::F16 && !caps.cpu {
        let gpu = |queue: &wgpu::Queue| Gpu::from_kernels(kernels.clone(), queue.clone());
        // A device that fails will say so to the plan that asks.
        caps.f16 = kernels.f16_conversion(|queue| asked(&gpu(queue)).ok());
    }
    caps
}

/// The fastest of the device's conversions that serves.
pub fn asked(gpu: &Gpu) -> Result<F16Conversion, Error> {
    for conversion in [F16Conversion::Native, F16Conversion::Packing] {
        if serves(gpu, conversion)? {
            return Ok(conversion);
        }
    }
    Ok(F16Conversion::Integers)
}

/// Whether the device has a conversion, and it is that of IEEE 754.
pub fn serves(gpu: &Gpu, conversion: F16Conversion) -> Result<bool, Error> {
    let has_f16 = gpu.device().features().contains(wgpu::Features::SHADER_F16);
    if conversion == F16Conversion::Native && !has_f16 {
        return Ok(false);
    }
    match is_ieee(gpu, CONVERT, element_f16(conversion)) {
        // A driver that does not compile it has not got it.
        Err(Error::Plan(PlanError::Kernel { .. })) => Ok(false),
        answer => answer,
    }
}

/// Whether a file for the slot `element` converts f16 as IEEE 754 wants: ties to even, infinity for what is too large, and
/// subnormals.
pub fn is_ieee(
    gpu: &Gpu,
    sources: &'static [&'static [Source]],
    element: &'static str,
) -> Result<bool, Error> {
    let (all, values) = (words(), around(Dtype::F16));
    let converted = converted(gpu, sources, element, &all, &values)?;
    let encoded = Dtype::F16.of_words(&converted.encoded, values.len());
    let exact = Dtype::F16.of_words(&all, 2 * all.len());
    let expected = Dtype::F16.of_words(&Dtype::F16.to_words(&values), values.len());
    let all_same = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(&a, &b)| same(a, b));
    Ok(all_same(&converted.decoded, &exact)
        && all_same(&encoded, &expected)
        && all_same(&converted.rounded, &expected))
}

/// All values of a 16-bit type, two to a word.
pub fn words() -> Vec<u32> {
    let pair = |i: u32| (2 * i) | ((2 * i + 1) << 16);
    (0..1 << 15).map(pair).collect()
}

/// Around every value of a 16-bit type and every middle between two of them; bits at random; and values that are too large,
/// beside those that are not.
pub fn around(dtype: Dtype) -> Vec<f32> {
    let mut values = Vec::new();
    for pair in dtype.of_words(&words(), 1 << 16).windows(2) {
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
    let (least, most) = (65_520.0, f32::MAX);
    values.extend([
        65_504.0,
        65_519.9,
        least,
        65_536.0,
        1e30,
        most,
        f32::INFINITY,
        f32::NAN,
    ]);
    for large in [least, -1e30, most, f32::INFINITY, f32::NAN] {
        values.extend([large, 1.0, -65_504.0, large, 6e-8, large, large, -0.0]);
    }
    values.resize(values.len().next_multiple_of(4), 0.0);
    values
}

/// Whether both are the same value, of NaNs any.
pub fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// What a device has converted.
pub struct Converted {
    /// The values of the words.
    pub decoded: Vec<f32>,
    /// The words of the values.
    pub encoded: Vec<u32>,
    /// The values encoded and decoded, without memory between the two.
    pub rounded: Vec<f32>,
}

/// Converts words and values by a file for the slot `element`.
pub fn converted(
    gpu: &Gpu,
    sources: &'static [&'static [Source]],
    element: &'static str,
    words: &[u32],
    values: &[f32],
) -> Result<Converted, Error> {
    let stored = gpu.filled_buffer("stored", bytemuck::cast_slice(words))?;
    let values_buffer = gpu.filled_buffer("values", bytemuck::cast_slice(values))?;
    let (decoded_bytes, encoded_bytes) = (8 * words.len() as u64, 2 * values.len() as u64);
    let decoded = gpu.new_buffer("decoded", decoded_bytes)?;
    let encoded = gpu.new_buffer("encoded", encoded_bytes)?;
    let rounded = gpu.new_buffer("rounded", values_buffer.size())?;
    let need = |field, bytes| Need { field, bytes };
    let vectors = (words.len() / 2).max(values.len() / 4);
    let program = Program {
        sources,
        dispatches: vec![Dispatch {
            kernel: KernelSpec {
                norm: "f16",
                name: "convert",
                choices: vec![("element", element)],
                constants: Vec::new(),
            },
            // It reads no uniform.
            params: vec![0; 16],
            window: 0..0,
            groups: vectors.div_ceil(64) as u32,
        }],
        needs: vec![
            need(STORED, stored.size()),
            need(VALUES, values_buffer.size()),
            need(DECODED, decoded_bytes),
            need(ENCODED, encoded_bytes),
            need(ROUNDED, values_buffer.size()),
        ],
        vector_bytes: 8,
    };
    let compiled = Compiled::new(gpu.kernels(), &program)?;
    let slices = [
        (STORED, Some(stored.slice(..))),
        (VALUES, Some(values_buffer.slice(..))),
        (DECODED, Some(decoded.slice(..))),
        (ENCODED, Some(encoded.slice(..))),
        (ROUNDED, Some(rounded.slice(..))),
    ];
    let step = compiled.bind("f16", &slices)?;
    gpu.submit(|encoder| step.encode(encoder))?;
    Ok(Converted {
        decoded: gpu.read_buffer(&decoded, 0, 2 * words.len())?,
        encoded: gpu.read_buffer(&encoded, 0, values.len() / 2)?,
        rounded: gpu.read_buffer(&rounded, 0, values.len())?,
    })
}
