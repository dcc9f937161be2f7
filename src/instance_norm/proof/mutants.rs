//! Changes to the shaders that only InstanceNorm's cases can notice: those about outer groups, and about units that share
//! parameters.

use super::cases::cases;
use crate::norm::proof::mutants::{Mutant, every_mutant_is_caught, mutants};

const MUTANTS: &[Mutant] = mutants! {
    "lane_range": "range.unit = unit % params.geometry.outer_units" => "range.unit = unit", "strips are counted through all samples", "instance n2c8h6w6 nhwc f32 backward in-place accumulate reread 8x8x2";
    "lane_range": "range.outer = unit / params.geometry.outer_units" => "range.outer = 0u", "the first sample stands for all", "instance n2c8h6w6 nhwc f32 backward in-place accumulate reread 8x8x2";
    "layout_columns": "item += first_item(range);" => "", "every sample begins at the first row";
    "layout_columns": "(element >= vec4(begin)) & " => "", "the sample before is counted in", "instance n3c65h5w5 nhwc f32 backward no-dx no-bias gpu";
    "layout_columns": "bound && element.x >= begin" => "bound", "a shared vector has two owners", "instance n40c3l33 nlc f32 backward skip no-weight no-bias gpu";
    "layout_columns": "        element >= vec4(end)," => "        vec4(false),", "a shared vector is all one sample's", "instance n2c3l33 nlc f32 backward skip no-weight no-bias gpu";
    "layout_columns": "4u * (range.outer * params.geometry.span + vector_column(range, j))" => "4u * vector_column(range, j)", "samples overwrite each other's partial results", "instance n16c4h3w3 nhwc f32 backward split 8x8x2";
    "layout_columns": "range.outer * channels + index" => "index", "samples share statistics";
    "layout_columns": "(end + 3u) / 4u <= window_begin" => "begin / 4u < window_begin", "a sample that begins before the window is skipped", "instance n2c3l129 nlc f32 backward skip gpu binding=1024";
    "layout_planes": "(range.unit + j * WIDTH) % params.geometry.parameters" => "0u", "the first weight for all";
    "layout_planes": "(range.unit + 1u) % params.geometry.parameters" => "range.unit % params.geometry.parameters", "the next channel gets this one's weight", "instance n3c65h5w5 nchw f32 backward skip no-bias split 8x8x2";
    "combine_chunks": "first += index / params.geometry.channels * params.reduction.outer_stride;" => "", "the first sample's partial results for all", "instance n16c4h3w3 nhwc f32 backward split 8x8x2";
    "combine_chunks": "channel = index % params.geometry.channels;" => "", "channels are counted through all samples", "instance n16c4h3w3 nhwc f32 backward split 8x8x2";
    "combine_units": "unit * params.geometry.parameters + index" => "index", "the first sample's gradients for all";
    "combine_units": "entry_of_unit(first + 3u, index)" => "Entry()", "every fourth sample is forgotten";
    "running_instances": "moments[index] = mean" => "moments[index] = m2", "squared deviations for means", "instance n3c5l3 ncl f32 forward tracked gpu";
    "running_instances": "2u * instances + index" => "2u * instances", "all squared deviations are the last ones", "instance n3c5l3 ncl f32 forward tracked gpu";
    "running_instances": "= count" => "= count + 1.0", "a value too many", "instance n3c5l3 ncl f32 forward tracked gpu";
    "running_instances": "= params.geometry.statistics" => "= params.geometry.parameters", "rows overlap", "instance n3c5l3 ncl f32 forward tracked gpu";
    "unit_gradients_to_scratch": "Entry(total.g[c], total.x_hat_g[c])" => "Entry(total.x_hat_g[c], total.g[c])", "dbias for dweight";
    "result_parameter_gradients": "write_parameter_gradients(index, total, 0u);" => "", "no gradients of parameters";
    "result_parameter_gradients": "params.geometry.parameters" => "params.geometry.statistics", "gradients beyond the last channel";
};

#[test]
fn every_mutant_is_caught_by_a_case() {
    every_mutant_is_caught(MUTANTS, &cases(24));
    assert!(MUTANTS.len() >= 22, "{} mutants", MUTANTS.len());
}
