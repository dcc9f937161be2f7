// The uniform of a dispatch. It never changes after the plan is made.
//
// Decisions are override constants, because a driver that sees them drops the branches not taken. The uniform holds
// numbers that no branch depends on.

#import geometry
#import settings
#bind uniform params: Params

// Numbers of a reduction in several dispatches, whose partial results are in `scratch`.
struct Reduction {
    // Values that share one statistic, and the reciprocal of that.
    count: f32,
    inverse_count: f32,
    // Entries of `scratch` before the partial results.
    head: u32,
    // Entries from one chunk to the next, and within a chunk from one outer group to the next.
    chunk_stride: u32,
    outer_stride: u32,
    // The first chunk that this dispatch writes, and the number of chunks that it reads.
    first_chunk: u32,
    chunks: u32,
    // Neighbouring entries of one statistic, and how often it recurs in the row of a chunk.
    plane: u32,
    periods: u32,
    // The parts of a batch whose moments are combined, and the floats from one to the next.
    parts: u32,
    part_stride: u32,
    // 0, which no compiler can know.
    zero: u32,
}

struct Params {
    geometry: Geometry,
    reduction: Reduction,
    settings: Settings,
}
