//! Changes to the shaders that only RMSNorm's cases can notice.

use super::cases::cases;
use crate::norm::proof::mutants::{Mutant, every_mutant_is_caught, mutants};

const MUTANTS: &[Mutant] = mutants! {
    "write_statistics": "variance + mean.nearest * mean.nearest" => "variance", "the variance for the mean square", "rms n3c768 nc f32 forward split gpu";
    "write_statistics": "return Statistics(vec4(0.0), vec4(0.0), inv_rms);" => "return Statistics(mean.nearest, mean.low, inv_rms);", "the mean is taken off", "rms n3c768 nc f32 forward split gpu";
    "backward_coefficients": "select(vec4(0.0), c.means.g, vec4(CENTERED))" => "c.means.g", "the mean gradient is taken off", "rms n3c768 nc f32 backward split gpu";
    "affine": "select(0.0, 1.0, UNIT_OFFSET)" => "0.0", "weights without 1", "rms n3c768 nc f32 forward unit-offset split gpu";
    "affine": "select(0.0, 1.0, UNIT_OFFSET)" => "select(0.0, 2.0, UNIT_OFFSET)", "weights with 2", "rms n3c768 nc f32 backward unit-offset split gpu";
    "coefficients": "return decode(encode(x_hat));" => "return x_hat;", "no rounding before the weight", "rms n3c768 nc bf16 forward rounding=before-weight split gpu";
    "coefficients": "before_weight((x - c.mean) * c.scale) * c.weight" => "before_weight((x - c.mean) * c.scale * c.weight)", "a rounding after the weight", "rms n3c768 nc f16 forward rounding=before-weight split gpu";
    "accumulate_sums": "before_weight(standardize(x, statistics))" => "standardize(x, statistics)", "the weight's gradient of values that are not rounded", "rms n3c768 nc bf16 backward rounding=before-weight split gpu";
    "backward_rows": "before_weight(x_hat)" => "x_hat", "the weight's gradient of values that are not rounded", "rms n40c64 nc bf16 backward rounding=before-weight resident 64x32 gpu";
    "layout_planes": "    if plane == 1u {\n        return value;\n    }" => "    if plane == 1u {\n        return value / 4u;\n    }", "one weight for four values", "rms n3c768 nc f32 forward reread 64x32 gpu";
};

#[test]
fn every_mutant_is_caught_by_a_case() {
    every_mutant_is_caught(MUTANTS, &cases(24));
    assert!(MUTANTS.len() >= 10, "{} mutants", MUTANTS.len());
}
