// The parameters of one dispatch, an immutable uniform of the plan.

#import walk

// What a plan decides is a constant, so that nothing is left of its branches; numbers are in the uniform.
override FLAGS: u32 = 0;
const HAS_WEIGHT = 1u;
const HAS_BIAS = 2u;
const TRACK = 4u;
const CUMULATIVE = 8u;
// The parameters' gradients are wanted.
const PARAMETERS = 16u;
// They are added to what is there.
const ACCUMULATE = 32u;

// The statistics are the running ones (mean, variance), not a batch's (mean, inv_std, residual).
override FROZEN: bool = false;

struct Params {
    geometry: Geometry,
    // Kernels know them as FLAGS.
    flags: u32,
    eps: f32,
    momentum: f32,
    // N * S, the values of a channel, and its reciprocal.
    count: f32,
    inverse_count: f32,
    // Where the partials begin in scratch memory, in entries.
    partials: u32,
    // The components that have an entry in each chunk.
    partial_components: u32,
    // The chunk of partials that this dispatch writes first, or the number of them, or of sets, that it reads.
    partial_chunk: u32,
    // For reading partials: the neighbouring components of one channel, and how often a channel
    // recurs in a row of columns.
    partial_plane: u32,
    partial_periods: u32,
    // 0, which no compiler can know.
    zero: u32,
    padding: u32,
}

@group(0) @binding(0) var<uniform> params: Params;

fn has(flag: u32) -> bool {
    return (FLAGS & flag) != 0u;
}
