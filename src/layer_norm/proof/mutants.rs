//! Changes to the shaders that only LayerNorm's cases can notice: those about rows, and about statistics that change along a
//! lane's range.

use super::cases::cases;
use crate::norm::proof::mutants::{Mutant, every_mutant_is_caught, mutants};

const MUTANTS: &[Mutant] = mutants! {
    "backward_rows": "unit < end_unit; unit++" => "unit < end_unit; unit += 2u", "every second row is left out", "layer n1040c68 nc f32 backward resident 16x8 gpu";
    "backward_rows": "min(first_unit + params.geometry.share, " => "min(first_unit + 1u, ", "a workgroup takes one row", "layer n1040c68 nc f32 backward resident 16x8 gpu";
    "backward_rows": "gradients[i] = combine(gradients[i], Partial(gradient, before_weight(x_hat) * gradient));" => "gradients[i] = Partial(gradient, before_weight(x_hat) * gradient);", "the last row's gradients for all", "layer n1040c68 nc f32 backward resident 16x8 gpu";
    "backward_rows": "Partial(gradient, before_weight(x_hat) * gradient)" => "Partial(weighted(gradient, c), before_weight(x_hat) * gradient)", "dbias with the weight", "layer n3c768 nc f32 backward resident 256x4 gpu";
    "backward_rows": "let g = weighted(gradient, c);" => "let g = gradient;", "means without the weight", "layer n3c768 nc f32 backward resident 256x4 gpu";
    "backward_rows": "work * WIDTH + columns.column" => "work", "rows side by side overwrite each other's sums", "layer n1040c68 nc f32 backward resident 16x8 gpu";
    "backward_rows": "columns.item + i * params.geometry.team_rows" => "columns.item + i", "columns of other lanes", "layer n1040c68 nc f32 backward resident 16x8 gpu";
    "backward_rows": "Means(total.g * share, total.x_hat_g * share)" => "Means(total.x_hat_g * share, total.g * share)", "means exchanged", "layer n3c768 nc f32 backward resident 256x4 gpu";
    "store_entries": "scratch[at + 3u] = entries[3];" => "", "a column in four is not written", "layer n3c768 nc f32 backward resident 256x4 gpu";
    "backward_rows": "held_g[i] = encode(gradient);" => "held_g[i] = held_x[i];", "x for the gradient", "layer n3c768 nc f32 backward resident 256x4 gpu";
    "backward_rows": "outer * units + work % shares * params.geometry.share" => "work * params.geometry.share", "workgroups are counted through all samples", "layer n8c68l129 nlc f32 backward per-sample resident 16x8 gpu";
    "backward_rows": "(outer + 1u) * units" => "params.geometry.units", "a sample's last workgroup takes rows of the next", "layer n8c68l129 nlc f32 backward per-sample resident 16x8 gpu";
    "layout_planes": "range.outer * params.geometry.channels + range.unit;" => "range.unit;", "the first sample's weights for the rows of all", "layer n8c68l129 nlc f32 backward per-sample resident 16x8 gpu";
    "layout_columns": "cursor.item * rows + before" => "cursor.item * rows", "the first row's statistics for all of an item", "layer n9c31 nc f32 backward split gpu";
    "layout_columns": "cursor.item * rows + before" => "cursor.item + before", "items of one row", "layer n9c31 nc f32 backward split gpu";
    "layout_columns": "cursor.item + team_rows" => "cursor.item + 1u", "rows of other lanes", "layer n300c8 nc f32 backward reread 8x8";
    "layout_columns": "let rows = 1u + u32(item >= 2u * row) + 2u * u32(item >= 4u * row);" => "let rows = 1u + u32(item >= 2u * row);", "four rows for two", "layer n9c31 nc f32 backward split gpu";
    "backward_coefficients": "stored_statistics(at.varying_index)" => "stored_statistics(vec4(0u))", "the first row's statistics for all", "layer n40c64 nc f32 backward reread 64x32 gpu";
    "backward_coefficients": "own.forward.scale, own.forward.bias);" => "own.forward.bias, own.forward.scale);", "weight and bias exchanged", "layer n40c64 nc f32 relu backward reread 64x32 gpu";
    "backward_coefficients": "own.means, v.parameters.weight);" => "own.means, vec4(1.0));", "rows without weights", "layer n40c64 nc f32 backward reread 64x32 gpu";
    "x_added": "decode(x[at.vector]) + decode(residual[at.vector])" => "decode(x[at.vector])", "the residual is not added", "layer n3c768 nc f32 forward prenorm split gpu";
    "x_added": "added[at.vector] = sum;" => "", "the sum is not written", "layer n3c768 nc f32 forward prenorm split gpu";
    "x_added": "return added[vector];" => "return x[vector];", "y without the residual", "layer n40c64 nc f32 forward prenorm reread 64x32 gpu";
    "x_added_before": "return added[vector];" => "return encode(2.0 * decode(added[vector]));", "twice the sum", "layer n3c768 nc f32 forward prenorm split gpu";
    "dadded_added": "values + decode(dadded[vector])" => "values", "the other gradient is not added", "layer n3c768 nc f32 backward prenorm split gpu";
    "dx_in_place": "encode(with_dadded(vector, values))" => "encode(values)", "nor is it in place", "layer n3c768 nc f32 backward in-place prenorm split gpu";
    "layout_planes": "before >= vec4(own)" => "before > vec4(own)", "a weight beyond the last", "layer n9c31 nc f32 forward split gpu";
    "layout_planes": "first_parameter(plane_of_all + 1u)" => "first_parameter(plane_of_all)", "the sample's weights for the first values of the next", "layer n3c31l3 nlc f32 forward per-sample split gpu";
    "layout_planes": "plane / sample_planes * own + in_sample" => "plane * own + in_sample", "parameters for each row", "layer n3c64l40 nlc f32 backward per-sample resident 64x32 gpu";
    "layout_columns": "index_in_row(range, j, params.geometry.sample_values, samples) * own + index" => "index", "the first sample's parameters for all", "layer n7c3l2 nlc f32 forward per-sample split gpu";
    "combine_chunks": "first += index / params.geometry.channels * params.reduction.outer_stride;" => "", "the first sample's gradients for all", "layer n3c64l40 nlc f32 backward per-sample resident 64x32 gpu";
    "layout_planes": "cursor.plane_begin + j * WIDTH * plane" => "cursor.plane_begin", "a lane's first row stands for all in windows", "layer n1024c16 nc f32 forward split 8x8x4 binding=40960";
    "store_entries": "scratch[at + 3u] = entries[3];" => "", "a column in four is not written", "layer n300c8 nc f32 backward reread 8x8x4";
    "row_gradients_to_scratch": "4u * item" => "4u * (item / 2u)", "columns overwrite each other's gradients", "layer n300c8 nc f32 backward reread 8x8x4";
    "row_gradients_to_scratch": "* WIDTH + range.column" => "* WIDTH", "lanes overwrite each other's gradients", "layer n300c8 nc f32 backward reread 8x8x4";
    "row_gradients_to_scratch": "range.unit / (COLUMNS * WIDTH) * WIDTH" => "0u", "workgroups overwrite each other's gradients", "layer n300c8 nc f32 backward reread 8x8x4";
    "accumulate_sums": "combine(row_gradients, row_gradients_of(at, values))" => "row_gradients_of(at, values)", "the last row's gradients for all of a lane", "layer n300c8 nc f32 backward reread 8x8x4";
    "accumulate_sums": "select(vec4(0.0), values.gradient, at.inside)" => "values.gradient", "a row that is not there counts", "layer n300c8 nc f32 backward reread 8x8x4";
    "accumulate_sums": "weighted(values.gradient, values.c)" => "values.gradient", "means without the weight", "layer n300c8 nc f32 backward reread 8x8x4";
    "accumulate_sums": "before_weight(standardize(values.x, values.c.statistics))" => "values.x", "x for the normalized value", "layer n300c8 nc f32 backward reread 8x8x4";
    "affine_vectors": "index.x / 4u" => "index.x / 8u", "a vector of parameters for two", "layer n3c768 nc f32 forward split gpu";
    "affine_vectors": "index.x / 4u" => "index.x / 4u + 1u", "the parameters of the next vector", "layer n3c768 nc f32 backward resident 256x4 gpu";
    "affine_wide": "index.x / 4u" => "index.x / 8u", "a vector of parameters for two", "layer n300c8 nc f32 forward reread 8x8x4";
    "affine_values": "affine[index.w]" => "affine[index.z]", "a parameter for two values", "layer n9c31 nc f32 forward split gpu";
    "accumulate_moments": "(*totals)[first_column + j] =" => "(*totals)[j] =", "the last row's moments for the first, and none for others", "layer n300c8 nc f32 forward reread 8x8x4";
    "accumulate_moments": "first_column < COLUMNS; first_column += COLUMNS_TOGETHER" => "first_column < 1u; first_column += 1u", "moments of a lane's first row only", "layer n300c8 nc f32 forward reread 8x8x4";
    "layout_planes": "select(0u, j * WIDTH * params.geometry.span, there)" => "0u", "a lane's first row stands for all", "layer n300c8 nc f32 forward reread 8x8x4";
};

#[test]
fn every_mutant_is_caught_by_a_case() {
    every_mutant_is_caught(MUTANTS, &cases(24));
    assert!(MUTANTS.len() >= 47, "{} mutants", MUTANTS.len());
}
