// How a dispatch divides a tensor. The value at index e has the statistics
//     (e / outer_values) * channels + e / plane % channels
// and the parameters
//     (e / sample_values) * sample_parameters + e / parameter_plane % sample_parameters

struct Geometry {
    // Statistics of one outer group.
    channels: u32,
    // Values of the tensor.
    elements: u32,
    // Units of all outer groups. A workgroup takes one chunk of one unit.
    units: u32,
    // Items of a chunk.
    chunk: u32,
    // Items of a team, which is `team_rows` rows of lanes.
    team_items: u32,
    // The items of this dispatch, counted from the first item of a unit.
    item_begin: u32,
    item_end: u32,
    // Lanes across. Kernels read WIDTH.
    width: u32,
    team_rows: u32,
    // Vectors per item count: of the window around a plane, or of a row.
    span: u32,
    // team_rows / span and team_rows % span.
    step_samples: u32,
    step_offset: u32,
    // Neighbouring values with the same statistics.
    plane: u32,
    // The vectors that this dispatch binds.
    vector_begin: u32,
    vector_end: u32,
    // Vector columns of a lane, WIDTH apart. Kernels read COLUMNS.
    columns: u32,
    // Units of one outer group.
    outer_units: u32,
    // Values and items of one outer group.
    outer_values: u32,
    outer_items: u32,
    // Statistics and parameters of the tensor.
    statistics: u32,
    parameters: u32,
    // Neighbouring values with the same parameters.
    parameter_plane: u32,
    inverse_parameter_plane: f32,
    // Statistics that `saved` holds. Where the tensor is divided more finely, several neighbours share one.
    saved_statistics: u32,
    // Units that one workgroup takes, one after the other, if it takes several.
    share: u32,
    // Parameters that one sample has, and the values that have them: a sample, or the whole tensor.
    sample_parameters: u32,
    sample_values: u32,
    padding: u32,
}
