//! The WGSL files that norms share.

use crate::gpu::compose::{Source, sources};

/// The files of `shaders/norm`.
pub const SOURCES: &[Source] = sources!("norm":
    accumulate_moments, accumulate_sums, add_sums, affine, affine_values, affine_vectors, affine_wide, apply,
    backward_apply, backward_coefficients, backward_frozen, backward_normalize, backward_reread,
    backward_resident, backward_rows, backward_stats, block_reduce,
    coefficients, combine_chunks, combine_groups, combine_parts, combine_units,
    dadded_added, dadded_none, dx_in_place, dx_out_of_place,
    element_bf16, element_f16, element_f16_native, element_f16_packing, element_f32, element_f32_wide,
    epilogue_add_relu, epilogue_backward_add_relu, epilogue_backward_identity, epilogue_backward_relu,
    epilogue_backward_silu, epilogue_identity, epilogue_relu, epilogue_silu, exchange_folded, exchange_whole,
    finalize, forward_reread, forward_resident,
    geometry, grid, grouped, incoming_dresidual, incoming_dy,
    lane_range, layout_columns, layout_planes,
    mean, means_from_groups, means_from_scratch, means_from_sums, means_none, moments,
    normalize, own_unit_gradients, own_unit_statistics,
    parameter_rows, params, relu,
    result_gradients, result_group_sums, result_moments, result_parameter_gradients, result_statistics, result_sums, running_none,
    row_gradients_none, row_gradients_to_scratch, settings_eps, settle, silu, standardize, stats, store_entries, store_partial, stored_running, stored_saved, sums,
    unit_gradients_final, unit_gradients_none, unit_gradients_to_scratch,
    wide_words, write_parameter_gradients, write_statistics,
    x_added, x_added_before, x_alone, y_in_place, y_out_of_place,
);
