// (N, C, S): a channel is N planes of S neighbouring values. A unit is a channel; an item is one vector
// of the aligned window around one plane. A plane of odd extent shares its first and last vector with
// its neighbours: a reduction masks their components, an elementwise pass writes the vectors that
// *begin* in the plane.
//
// S is at least 4, so that a vector meets two channels at most.

#import walk

// All components of a lane's vectors belong to one channel.
const UNIT_IS_CHANNEL = true;

struct Cursor {
    sample: u32,
    // Vectors from the window's first.
    offset: u32,
}

fn cursor_at(walk: Walk) -> Cursor {
    return Cursor(walk.item / params.geometry.span, walk.item % params.geometry.span);
}

fn cursor_next(cursor: Cursor) -> Cursor {
    let offset = cursor.offset + params.geometry.step_offset;
    let wraps = offset >= params.geometry.span;
    return Cursor(
        cursor.sample + params.geometry.step_samples + u32(wraps),
        offset - select(0u, params.geometry.span, wraps),
    );
}

fn place(walk: Walk, cursor: Cursor, live: bool) -> Place {
    let begin = (cursor.sample * params.geometry.channels + walk.unit) * params.geometry.plane;
    let end = begin + params.geometry.plane;
    let vector = begin / 4u + cursor.offset;
    let bound = live && vector >= params.geometry.vector_begin && vector < params.geometry.vector_end;
    let index = vector - params.geometry.vector_begin;
    if !MASKED {
        return Place(index, vec4(bound), vec4(false), bound);
    }
    let element = 4u * vector + vec4(0u, 1u, 2u, 3u);
    return Place(
        index,
        (element >= vec4(begin)) & (element < vec4(end)) & vec4(bound),
        element >= vec4(end),
        bound && element.x >= begin && element.x < end,
    );
}

fn has_values(walk: Walk) -> bool {
    return true;
}

fn channels(walk: Walk) -> vec4<u32> {
    return vec4(walk.unit);
}

fn channels_beyond(walk: Walk) -> vec4<u32> {
    return vec4((walk.unit + 1u) % params.geometry.channels);
}
