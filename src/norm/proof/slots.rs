//! The interface of each import slot: which files a plan may bind to it, and which names each of them declares.

use crate::gpu::compose::Source;

/// A name that kernels import, which a plan binds to one of several files.
pub struct Slot {
    pub name: &'static str,
    pub files: &'static [&'static str],
    /// Functions, types and constants that each file declares.
    pub declares: &'static [&'static str],
}

/// Writes a table of slots.
macro_rules! slots {
    ($($name:ident: [$($file:ident),+] declare [$($declared:ident),+];)+) => {
        &[$(Slot {
            name: stringify!($name),
            files: &[$(stringify!($file)),+],
            declares: &[$(stringify!($declared)),+],
        }),+]
    };
}

pub const SLOTS: &[Slot] = slots! {
    settings: [settings_eps, settings_momentum] declare [Settings];
    layout: [layout_planes, layout_columns] declare [
        COLUMNS, COLUMNS_TOGETHER, COMPONENTS_SHARE, lane_of, lane_range, Cursor, cursor_at, cursor_next, place, has_values, partial_component,
        statistics_index, next_statistics_index, parameter_index, next_parameter_index
    ];
    affine_row: [affine_values, affine_vectors, affine_wide] declare [affine_at];
    element: [element_f32, element_f32_wide, element_f16, element_f16_native, element_f16_packing, element_bf16] declare [StorageVector, decode, encode];
    monoid: [moments, sums] declare [Partial, identity, combine, fold, Entry, entries_of, partial_of];
    exchange: [exchange_folded, exchange_whole] declare [Exchanged, lane_total, exchanged_of, value_of];
    epilogue: [epilogue_identity, epilogue_relu, epilogue_add_relu, epilogue_silu] declare [finish];
    epilogue_backward: [
        epilogue_backward_identity, epilogue_backward_relu, epilogue_backward_add_relu, epilogue_backward_silu
    ] declare [epilogue_backward];
    incoming: [incoming_dy, incoming_dresidual] declare [incoming];
    x: [x_alone, x_added, x_added_before] declare [load_x_first, load_x];
    dadded: [dadded_none, dadded_added] declare [with_dadded];
    y: [y_out_of_place, y_in_place] declare [store_y];
    dx: [dx_out_of_place, dx_in_place] declare [store_dx];
    stored_statistics: [stored_saved, stored_running] declare [FROZEN, stored_statistics];
    running: [running_none, running_moved, running_instances] declare [move_running];
    row_gradients: [row_gradients_none, row_gradients_to_scratch] declare [ROW_GRADIENTS, leave_row_gradients];
    unit_gradients: [unit_gradients_final, unit_gradients_none, unit_gradients_to_scratch] declare [write_unit_gradients];
    means: [means_none, means_from_scratch, means_from_groups, means_from_sums] declare [stored_means];
    combine: [combine_chunks, combine_groups, combine_instances, combine_parts, combine_units] declare [combine_entries];
    result: [
        result_statistics, result_statistics_or_running, result_running, result_moments, result_gradients, result_group_sums, result_parameter_gradients, result_sums
    ] declare [result_count, write_result];
};

/// The names that a file declares: of functions, types, constants, variables and buffers.
pub fn declared(text: &str) -> Vec<&str> {
    let name = |rest: &'_ str| -> usize {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        end.unwrap_or(rest.len())
    };
    let keywords = [
        "fn ",
        "struct ",
        "alias ",
        "const ",
        "override ",
        "var<workgroup> ",
        "#const ",
        "#bind uniform ",
        "#bind read ",
        "#bind write ",
    ];
    text.lines()
        .filter_map(|line| {
            let rest = keywords
                .iter()
                .find_map(|keyword| line.strip_prefix(keyword))?;
            Some(&rest[..name(rest)])
        })
        .collect()
}

/// The names that a file imports.
pub fn imported(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter_map(|line| line.strip_prefix("#import "))
        .map(str::trim)
}

/// The file of that name.
pub fn file(sources: &[&'static [Source]], name: &str) -> Option<Source> {
    let mut files = sources.iter().copied().flatten();
    files.find(|source| source.name == name).copied()
}
