//! Tests of `element_f16.wgsl`, its siblings and `element_bf16.wgsl`, value by value.

use crate::dtype::Dtype;
use crate::gpu::compose::Source;
use crate::gpu::{F16Conversion, test_gpu};
use crate::norm::f16::{CONVERT, around, asked, caps_for, converted, is_ieee, same, serves, words};
use crate::norm::planner::element_f16;
use crate::norm::proof::shaders::validate_kernel;

/// Whether a subnormal f32 became zero, which WGSL allows.
fn is_flushed(value: f32, stored: f32) -> bool {
    value.is_subnormal() && stored == 0.0
}

#[test]
fn every_value_is_decoded_and_rounded_as_ieee_754_wants() {
    for (dtype, file) in [
        (Dtype::F16, element_f16(F16Conversion::Integers)),
        (Dtype::Bf16, "element_bf16"),
    ] {
        let (all, values) = (words(), around(dtype));
        let converted =
            converted(test_gpu(), CONVERT, file, &all, &values).expect("the test device");
        let expected = dtype.of_words(&all, 1 << 16);
        for (actual, expected) in converted.decoded.into_iter().zip(expected) {
            // WGSL may flush what is subnormal in f32, which of bf16 alone there is.
            let right = same(actual, expected) || is_flushed(expected, actual);
            assert!(right, "{dtype}: {expected:e}");
        }
        let expected = dtype.of_words(&dtype.to_words(&values), values.len());
        let encoded = dtype.of_words(&converted.encoded, values.len());
        let both = encoded.into_iter().zip(converted.rounded);
        for ((value, (actual, rounded)), expected) in values.iter().zip(both).zip(expected) {
            let alike = same(actual, rounded) || is_flushed(actual, rounded);
            assert!(
                alike,
                "{dtype}: {value:e} to {actual:e}, but {rounded:e} without memory"
            );
            assert!(
                same(actual, expected) || is_flushed(*value, actual),
                "{dtype}: {value:e} to {actual:e}, not {expected:e}"
            );
        }
    }
}

/// Writes a file for the slot `element` that converts by packing, after a statement.
macro_rules! packing {
    ($name:literal, $statement:literal) => {
        Source {
            name: $name,
            text: concat!(
                "alias StorageVector = vec2<u32>;\n",
                "fn decode(stored: StorageVector) -> vec4<f32> {\n",
                "    return vec4(unpack2x16float(stored.x), unpack2x16float(stored.y));\n}\n",
                "fn encode(given: vec4<f32>) -> StorageVector {\n    var values = given;\n    ",
                $statement,
                "\n    return vec2(pack2x16float(values.xy), pack2x16float(values.zw));\n}\n"
            ),
        }
    };
}

/// What drivers do with what WGSL leaves to them.
const DRIVERS: &[&[Source]] = &[
    CONVERT[0],
    &[
        packing!("faithful", ""),
        packing!(
            "toward_zero",
            "values = bitcast<vec4<f32>>(bitcast<vec4<u32>>(values) & vec4(0xffffe000u));"
        ),
        packing!(
            "ties_away",
            "values = bitcast<vec4<f32>>((bitcast<vec4<u32>>(values) + vec4(0x1000u)) & vec4(0xffffe000u));"
        ),
        packing!(
            "no_subnormals",
            "values = select(values, vec4(0.0), abs(values) < vec4(exp2(-14.0)));"
        ),
        packing!(
            "no_infinity",
            "values = clamp(values, vec4(-65504.0), vec4(65504.0));"
        ),
        packing!(
            "spoilt_neighbours",
            "values = select(values, vec4(0.0), any(abs(values) >= vec4(65520.0)));"
        ),
    ],
];

#[test]
fn a_driver_that_converts_otherwise_is_found_out() {
    for source in DRIVERS[1] {
        let passes = is_ieee(test_gpu(), DRIVERS, source.name).expect("the test device");
        let faithful = serves(test_gpu(), F16Conversion::Packing).expect("the test device");
        let expected = source.name == "faithful" && faithful;
        assert_eq!(passes, expected, "{}", source.name);
    }
}

#[test]
fn a_device_is_asked_once_and_only_for_f16() {
    let kernels = test_gpu().kernels();
    for dtype in [Dtype::F32, Dtype::Bf16] {
        assert_eq!(caps_for(kernels, dtype), *kernels.caps());
    }
    let ask = |_: &wgpu::Queue| asked(test_gpu()).ok();
    // What does not answer is asked again.
    assert_eq!(kernels.f16_conversion(|_| None), F16Conversion::Integers);
    let answer = kernels.f16_conversion(ask);
    assert!(serves(test_gpu(), answer).expect("the test device"));
    assert_eq!(kernels.f16_conversion(|_| panic!("asked twice")), answer);
    // The kernels of a guest that gave no queue have no way to ask.
    let guest = crate::gpu::Kernels::new(test_gpu().device()).expect("the test device");
    assert_eq!(guest.f16_conversion(ask), F16Conversion::Integers);
    let asking = guest.with_queue(test_gpu().queue());
    assert_eq!(asking.f16_conversion(ask), answer);
    assert_eq!(
        caps_for(&asking, Dtype::F16).f16 == answer,
        !asking.caps().cpu || answer == F16Conversion::Integers
    );
}

/// Each conversion compiles for every backend, and on the test device, if it has f16 at all.
#[test]
fn conversions_validate_and_translate_to_every_backend() {
    for file in [
        "element_f16",
        "element_f16_native",
        "element_f16_packing",
        "element_bf16",
    ] {
        validate_kernel("convert", CONVERT, &[("element", file)]);
    }
    let features = test_gpu().device().features();
    if features.contains(wgpu::Features::SHADER_F16) {
        assert!(is_ieee(test_gpu(), CONVERT, "element_f16_native").is_ok());
    }
}
