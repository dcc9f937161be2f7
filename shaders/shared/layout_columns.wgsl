// (R, C * plane): rows in which each value has a fixed column, and each column a fixed channel. That is
// channels last (plane = 1), features (N, C), and channels first with planes that are small or odd.
//
// An item is a row of `span` whole vectors: so many rows of the tensor that the next one is aligned
// again (four where the row is odd). A lane keeps its columns of vectors all the way down, so their
// components keep their channels, and no vector is shared. A unit is a strip of `width * COLUMNS` columns.

#import walk
#import columns

const UNIT_IS_CHANNEL = false;

// A strip may be wider than what is left of the row: some of a lane's columns have no values, or all of them.
fn walk(work: u32, lane: u32) -> Walk {
    var walk = share(work, lane);
    if !has_values(walk, 0u) {
        walk.end = 0u;
    }
    return walk;
}

struct Cursor {
    vector: u32,
}

fn cursor_at(walk: Walk) -> Cursor {
    return Cursor(walk.item * params.geometry.span + vector_column(walk, 0u));
}

fn cursor_next(cursor: Cursor) -> Cursor {
    return Cursor(cursor.vector + params.geometry.step * params.geometry.span);
}

fn vector_column(walk: Walk, j: u32) -> u32 {
    return (walk.unit * COLUMNS + j) * WIDTH + walk.column;
}

// Which component of a chunk of partial results the lane's first is: each component has one.
fn partial_component(walk: Walk, j: u32) -> u32 {
    return 4u * vector_column(walk, j);
}

fn has_values(walk: Walk, j: u32) -> bool {
    return vector_column(walk, j) < params.geometry.span;
}

fn place(walk: Walk, cursor: Cursor, j: u32) -> Place {
    // Of a lane that walks at all, the first column has values. Reductions read the others, too: the first again.
    let there = COLUMNS == 1u || has_values(walk, j);
    let vector = cursor.vector + select(0u, j * WIDTH, there);
    if !MASKED {
        return Place(vector, vec4(there), vec4(false), there);
    }
    let bound = there
        && vector >= params.geometry.vector_begin
        && vector < params.geometry.vector_end;
    let element = 4u * vector + vec4(0u, 1u, 2u, 3u);
    return Place(
        select(0u, vector - params.geometry.vector_begin, bound),
        (element < vec4(params.geometry.elements)) & vec4(bound),
        vec4(false),
        bound,
    );
}

fn channels(walk: Walk, j: u32) -> vec4<u32> {
    // (element + (0, 1, 2, 3)) / plane % channels, with one division for four: where the remainder is at most
    // three too large, so is the quotient.
    let plane = params.geometry.plane;
    let element = 4u * vector_column(walk, j);
    let first = element / plane;
    let rest = element - first * plane + vec4(0u, 1u, 2u, 3u);
    let all = params.geometry.channels;
    var channel = first % all
        + vec4<u32>(rest >= vec4(plane))
        + vec4<u32>(rest >= vec4(2u * plane))
        + vec4<u32>(rest >= vec4(3u * plane));
    channel -= select(vec4(0u), vec4(all), channel >= vec4(all));
    channel -= select(vec4(0u), vec4(all), channel >= vec4(all));
    channel -= select(vec4(0u), vec4(all), channel >= vec4(all));
    return channel;
}

fn channels_beyond(walk: Walk, j: u32) -> vec4<u32> {
    return channels(walk, j);
}
