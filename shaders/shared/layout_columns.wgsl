// (R, C * plane): rows in which each value has a fixed column, and each column a fixed channel. That is
// channels last (plane = 1), features (N, C), and channels first with a plane too small to walk.
//
// An item is a row of `span` whole vectors: so many rows of the tensor that the next one is aligned
// again (four where the row is odd). A lane keeps its column of vectors all the way down, so its four
// components keep their channels, and no vector is shared. A unit is a strip of `width` columns.

#import walk

const UNIT_IS_CHANNEL = false;

// A strip may be wider than what is left of the row; the lanes beyond walk nothing.
fn walk(work: u32, lane: u32) -> Walk {
    var walk = share(work, lane);
    if !has_values(walk) {
        walk.end = 0u;
    }
    return walk;
}

struct Cursor {
    vector: u32,
}

fn cursor_at(walk: Walk) -> Cursor {
    return Cursor(walk.item * params.geometry.span + vector_column(walk));
}

fn cursor_next(cursor: Cursor) -> Cursor {
    return Cursor(cursor.vector + params.geometry.step * params.geometry.span);
}

fn vector_column(walk: Walk) -> u32 {
    return walk.unit * params.geometry.width + walk.column;
}

fn has_values(walk: Walk) -> bool {
    return vector_column(walk) < params.geometry.span;
}

fn place(walk: Walk, cursor: Cursor, live: bool) -> Place {
    let vector = cursor.vector;
    if !MASKED {
        return Place(vector, vec4(live), vec4(false), live);
    }
    let bound = live
        && vector >= params.geometry.vector_begin
        && vector < params.geometry.vector_end;
    let element = 4u * vector + vec4(0u, 1u, 2u, 3u);
    return Place(
        vector - params.geometry.vector_begin,
        (element < vec4(params.geometry.elements)) & vec4(bound),
        vec4(false),
        bound,
    );
}

fn channels(walk: Walk) -> vec4<u32> {
    let element = 4u * vector_column(walk) + vec4(0u, 1u, 2u, 3u);
    return element / params.geometry.plane % params.geometry.channels;
}

fn channels_beyond(walk: Walk) -> vec4<u32> {
    return channels(walk);
}
