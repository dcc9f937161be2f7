//! Changes to the shaders that only GroupNorm's cases can notice: those about groups, about parameters that change along a
//! lane's range, and about SiLU.

use super::cases::cases;
use crate::norm::proof::mutants::{Mutant, every_mutant_is_caught, mutants};

const MUTANTS: &[Mutant] = mutants! {
    "combine_groups": "sums.g * weight" => "sums.g", "the mean gradient without weights", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "combine_groups": "sums.x_hat_g * weight" => "sums.x_hat_g", "the projection without weights", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "combine_groups": "index * channels + channel" => "index + channel", "groups overlap", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "combine_groups": "channel < vec4(channels)" => "channel < vec4(4u)", "the next group's first channel counts, too", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "combine_groups": "at % params.geometry.parameters" => "channel", "the first group's weights for all", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "combine_groups": "first += 4u * rows" => "first += 8u * rows", "channels beyond the fourth are forgotten", "group n2c32h4w4 nchw f32 backward groups=2 8x8 gpu";
    "result_group_sums": "params.geometry.statistics + index" => "index", "sums of groups overwrite those of channels", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "means_from_groups": "saved_index(index)" => "index", "means of other groups", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "means_from_groups": "first.yyyy * share" => "first.xxxx * share", "one mean for both", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "means_from_groups": "vec4(first.y, second.y, third.y, fourth.y)" => "vec4(first.y)", "one group for four neighbours", "group n2c6h7w7 nhwc f32 backward groups=2 gpu";
    "grouped": "return index / (params.geometry.statistics / params.geometry.saved_statistics);" => "return index;", "statistics of other groups", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "stored_saved": "row * params.geometry.saved_statistics" => "row * params.geometry.statistics", "rows of statistics too far apart", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "backward_coefficients": "return gradient * c.weight;" => "return gradient;", "dx without the weight", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "backward_coefficients": "return moved * c.statistics.inv_std;" => "return moved * c.forward.scale;", "dx with the weight twice", "group n2c6h7w7 nchw f32 backward groups=2 gpu";
    "layout_planes": "range.unit * COLUMNS * WIDTH + range.column" => "range.unit * COLUMNS * WIDTH", "small planes side by side are one", "group n9c4l4 ncl f32 forward groups=4 split 64x32 gpu";
    "layout_planes": "range.parameter + before" => "vec4(range.parameter)", "the group's first weight for all", "group n2c32h4w4 nchw f32 forward groups=2 reread 64x32 gpu";
    "layout_planes": "plane * plane_parameters() % own" => "0u", "the first group's weights for all", "group n2c32h4w4 nchw f32 forward groups=2 reread 64x32 gpu";
    "layout_planes": "plane / sample_planes * own + in_sample" => "in_sample", "the first sample's parameters for all", "group n2c32h4w4 nchw f32 forward groups=2 per-sample reread 64x32 gpu";
    "layout_columns": "(index + params.geometry.sample_parameters) % params.geometry.parameters" => "index", "the sample's parameters for values of the next", "group n3c6h7w7 nhwc f32 forward groups=3 per-sample split gpu";
    "coefficients": "p.bias + own.bias * p.weight" => "own.bias * p.weight", "no biases", "group n2c32h4w4 nchw f32 forward groups=2 reread 64x32 gpu";
    "coefficients": "own.scale * p.weight" => "own.scale", "no weights", "group n2c32h4w4 nchw f32 forward groups=2 reread 64x32 gpu";
    "epilogue_silu": "normalized * sigmoid(normalized)" => "sigmoid(normalized)", "a sigmoid for SiLU", "group n2c32h4w4 nchw f32 silu forward groups=2 gpu";
    "epilogue_backward_silu": "value * (1.0 - share)" => "(1.0 - share)", "another slope", "group n2c6h7w7 nchw f32 silu backward groups=2 gpu";
    "epilogue_backward_silu": "incoming(at.vector) *" => "", "the slope for the gradient", "group n2c6h7w7 nchw f32 silu backward groups=2 gpu";
    "silu": "min(-values, vec4(80.0))" => "min(values, vec4(80.0))", "SiLU mirrored", "group n2c32h4w4 nchw f32 silu forward groups=2 gpu";
};

#[test]
fn every_mutant_is_caught_by_a_case() {
    every_mutant_is_caught(MUTANTS, &cases(24));
    assert!(MUTANTS.len() >= 25, "{} mutants", MUTANTS.len());
}
