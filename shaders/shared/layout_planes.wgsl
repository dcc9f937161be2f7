// (N, C, S): a channel is N planes of S neighbouring values. A unit is a channel; an item is one vector
// of the aligned window around one plane. A plane of odd extent shares its first and last vector with
// its neighbours: a reduction masks their components, an elementwise pass writes the vectors that
// *begin* in the plane.
//
// S is at least 4, so that a vector meets two channels at most.

#import walk
#import columns

// All components of a lane's vectors belong to one channel.
const UNIT_IS_CHANNEL = true;
// The plan binds `columns` to one: the vectors of a plane are neighbours already.

fn walk(work: u32, lane: u32) -> Walk {
    return share(work, lane);
}

struct Cursor {
    sample: u32,
    // Vectors from the window's first.
    offset: u32,
    // Where planes are whole vectors: the vector, so that a step costs an addition, not a product.
    vector: u32,
}

// Vectors from a plane to the same channel's next, where planes are whole vectors.
fn stride() -> u32 {
    return params.geometry.channels * params.geometry.plane / 4u;
}

fn cursor_at(walk: Walk) -> Cursor {
    let sample = walk.item / params.geometry.span;
    let offset = walk.item % params.geometry.span;
    let vector = sample * stride() + walk.unit * params.geometry.plane / 4u + offset;
    return Cursor(sample, offset, vector);
}

fn cursor_next(cursor: Cursor) -> Cursor {
    let span = params.geometry.span;
    let offset = cursor.offset + params.geometry.step_offset;
    let step = params.geometry.step_offset + params.geometry.step_samples * stride();
    let wraps = offset >= span;
    return Cursor(
        cursor.sample + params.geometry.step_samples + u32(wraps),
        offset - select(0u, span, wraps),
        cursor.vector + select(step, step + stride() - span, wraps),
    );
}

fn place(walk: Walk, cursor: Cursor, j: u32) -> Place {
    if !MASKED {
        return Place(cursor.vector, vec4(true), vec4(false), true);
    }
    let begin = (cursor.sample * params.geometry.channels + walk.unit) * params.geometry.plane;
    let end = begin + params.geometry.plane;
    let vector = begin / 4u + cursor.offset;
    let bound = vector >= params.geometry.vector_begin && vector < params.geometry.vector_end;
    // Reductions read what is not bound, too, and select it away.
    let index = select(0u, vector - params.geometry.vector_begin, bound);
    let element = 4u * vector + vec4(0u, 1u, 2u, 3u);
    return Place(
        index,
        (element >= vec4(begin)) & (element < vec4(end)) & vec4(bound),
        element >= vec4(end),
        bound && element.x >= begin && element.x < end,
    );
}

// Which component of a chunk of partial results is the lane's: each channel has one.
fn partial_component(walk: Walk, j: u32) -> u32 {
    return walk.unit;
}

fn has_values(walk: Walk, j: u32) -> bool {
    return true;
}

fn channels(walk: Walk, j: u32) -> vec4<u32> {
    return vec4(walk.unit);
}

fn channels_beyond(walk: Walk, j: u32) -> vec4<u32> {
    return vec4((walk.unit + 1u) % params.geometry.channels);
}
