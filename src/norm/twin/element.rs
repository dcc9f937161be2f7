//! Tests of `element_f16.wgsl`, its siblings and `element_bf16.wgsl`, value by value.

use crate::dtype::Dtype;
use crate::gpu::compose::Source;
use crate::gpu::{F16Conversion, test_gpu};
use crate::norm::f16::{
    CONVERT, around, asked, caps_for, converted, is_flushed, is_ieee, same, words,
};
use crate::norm::planner::element_f16;

#[test]
fn every_value_is_decoded_and_rounded_as_ieee_754_wants() {
    for (dtype, file) in [
        (Dtype::F16, element_f16(F16Conversion::Integers)),
        (Dtype::Bf16, "element_bf16"),
    ] {
        let (all, values) = (words(), around(dtype));
        let (decoded, encoded) =
            converted(test_gpu(), CONVERT, file, &all, &values).expect("the test device");
        let expected = dtype.of_words(&all, 1 << 16);
        for (actual, expected) in decoded.into_iter().zip(expected) {
            // WGSL may flush what is subnormal in f32, which of bf16 alone there is.
            let right = same(actual, expected) || is_flushed(expected, actual);
            assert!(right, "{dtype}: {expected:e}");
        }
        let expected = dtype.of_words(&dtype.to_words(&values), values.len());
        let encoded = dtype.of_words(&encoded, values.len());
        for ((value, actual), expected) in values.iter().zip(encoded).zip(expected) {
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
        assert_eq!(passes, source.name == "faithful", "{}", source.name);
    }
}

#[test]
fn a_device_is_asked_once_and_only_for_f16() {
    let kernels = test_gpu().kernels();
    for dtype in [Dtype::F32, Dtype::Bf16] {
        assert_eq!(caps_for(kernels, dtype), *kernels.caps());
    }
    let answer = kernels.f16_conversion(|_| asked(test_gpu()));
    assert_eq!(kernels.f16_conversion(|_| panic!("asked twice")), answer);
    // The kernels of a guest that gave no queue have no way to ask.
    let guest = crate::gpu::Kernels::new(test_gpu().device()).expect("the test device");
    assert_eq!(
        guest.f16_conversion(|_| asked(test_gpu())),
        F16Conversion::Integers
    );
    let asking = guest.with_queue(test_gpu().queue());
    assert_eq!(asking.f16_conversion(|_| asked(test_gpu())), answer);
    assert_eq!(
        caps_for(&asking, Dtype::F16).f16 == answer,
        !asking.caps().cpu || answer == F16Conversion::Integers
    );
}
