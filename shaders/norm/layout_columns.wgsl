// (R, C * plane): rows in which each value has a fixed column, and each column a fixed channel. That is channels last
// (plane = 1), features (N, C), and channels first with planes that are small or odd.
//
// An item is a row of `span` whole vectors: as many rows of the tensor as it takes until the next one is aligned again
// (four if the row is odd). A lane keeps its columns of vectors through all items, so that the components of its vectors
// keep their channels. A unit is a strip of WIDTH * COLUMNS columns of one outer group.
//
// The rows of an outer group need not begin at an item: then its first and last item have values of its neighbours,
// which reductions mask, and an elementwise pass writes the vectors that *begin* in the group. A group has at least 4
// values, so that a vector has values of at most two groups.

#import lane_range
// Vector columns of a lane, WIDTH apart.
#const COLUMNS

const COMPONENTS_SHARE = false;

// Columns that are best read together, row by row: all, because they are neighbours in memory.
const COLUMNS_TOGETHER = COLUMNS;

// The lane that an invocation is: neighbours read neighbouring columns.
fn lane_of(invocation: u32) -> u32 {
    return invocation;
}

// The last strip may be wider than the rest of the row: some of a lane's columns have no values, or all of them.
fn lane_range(work: u32, lane: u32) -> LaneRange {
    var range = unclipped_range(work, lane);
    if !has_values(range, 0u) {
        range.end = 0u;
    }
    if OUTER {
        let begin = range.outer * params.geometry.outer_values;
        let end = group_end(range);
        let window_begin = params.geometry.vector_begin;
        if MASKED && ((end + 3u) / 4u <= window_begin || begin / 4u >= params.geometry.vector_end) {
            // The group lies outside of the bound window.
            range.end = 0u;
        }
        // Not each group reaches into as many items, and the last one may have fewer rows.
        let items_end = (end - 1u) / (4u * params.geometry.span) + 1u;
        range.end = min(range.end, items_end - first_item(range));
    }
    return range;
}

// The end of the values of the range's outer group.
fn group_end(range: LaneRange) -> u32 {
    return min((range.outer + 1u) * params.geometry.outer_values, params.geometry.elements);
}

// The item of the tensor in which the range's outer group begins.
fn first_item(range: LaneRange) -> u32 {
    return range.outer * params.geometry.outer_values / (4u * params.geometry.span);
}

struct Cursor {
    vector: u32,
    // Of the tensor.
    item: u32,
}

fn cursor_at(range: LaneRange) -> Cursor {
    var item = range.item;
    if OUTER {
        item += first_item(range);
    }
    return Cursor(item * params.geometry.span + vector_column(range, 0u), item);
}

fn cursor_next(cursor: Cursor) -> Cursor {
    let team_rows = params.geometry.team_rows;
    return Cursor(cursor.vector + team_rows * params.geometry.span, cursor.item + team_rows);
}

fn vector_column(range: LaneRange, j: u32) -> u32 {
    return (range.unit * COLUMNS + j) * WIDTH + range.column;
}

fn has_values(range: LaneRange, j: u32) -> bool {
    return vector_column(range, j) < params.geometry.span;
}

// The rows of the tensor that the components of a vector are in: one, two or four rows are an item.
fn rows_of(range: LaneRange, cursor: Cursor, j: u32) -> vec4<u32> {
    let last = params.geometry.saved_statistics - 1u;
    if STATISTICS_SHARE {
        return vec4(min(cursor.item, last));
    }
    let row = params.geometry.channels * params.geometry.plane;
    let item = 4u * params.geometry.span;
    let rows = 1u + u32(item >= 2u * row) + 2u * u32(item >= 4u * row);
    let value = 4u * vector_column(range, j) + vec4(0u, 1u, 2u, 3u);
    let before = vec4<u32>(value >= vec4(row))
        + vec4<u32>(value >= vec4(2u * row))
        + vec4<u32>(value >= vec4(3u * row));
    return min(cursor.item * rows + before, vec4(last));
}

fn place(range: LaneRange, cursor: Cursor, j: u32) -> Place {
    let varying_index = rows_of(range, cursor, j);
    // If a lane has values at all, its first column has. Reductions read the others, too: they read the first again.
    let there = COLUMNS == 1u || has_values(range, j);
    let vector = cursor.vector + select(0u, j * WIDTH, there);
    if !MASKED {
        return Place(vector, vec4(there), vec4(false), there, varying_index);
    }
    let bound = there
        && vector >= params.geometry.vector_begin
        && vector < params.geometry.vector_end;
    let index = select(0u, vector - params.geometry.vector_begin, bound);
    let element = 4u * vector + vec4(0u, 1u, 2u, 3u);
    if !OUTER {
        return Place(
            index,
            (element < vec4(params.geometry.elements)) & vec4(bound),
            vec4(false),
            bound,
            varying_index,
        );
    }
    let begin = range.outer * params.geometry.outer_values;
    let end = group_end(range);
    return Place(
        index,
        (element >= vec4(begin)) & (element < vec4(end)) & vec4(bound),
        element >= vec4(end),
        bound && element.x >= begin && element.x < end,
        varying_index,
    );
}

// The entry of a chunk that the lane's first component has: one for each column of values.
fn partial_component(range: LaneRange, j: u32) -> u32 {
    if OUTER {
        return 4u * (range.outer * params.geometry.span + vector_column(range, j));
    }
    return 4u * vector_column(range, j);
}

// (column + (0, 1, 2, 3)) / plane % count for the four components of a vector, with one division: the quotient is at
// most three too small where the remainder is.
fn index_in_row(range: LaneRange, j: u32, plane: u32, count: u32) -> vec4<u32> {
    let element = 4u * vector_column(range, j);
    let first = element / plane;
    let rest = element - first * plane + vec4(0u, 1u, 2u, 3u);
    var index = first % count
        + vec4<u32>(rest >= vec4(plane))
        + vec4<u32>(rest >= vec4(2u * plane))
        + vec4<u32>(rest >= vec4(3u * plane));
    index -= select(vec4(0u), vec4(count), index >= vec4(count));
    index -= select(vec4(0u), vec4(count), index >= vec4(count));
    index -= select(vec4(0u), vec4(count), index >= vec4(count));
    return index;
}

fn statistics_index(range: LaneRange, j: u32) -> vec4<u32> {
    let channels = params.geometry.channels;
    let index = index_in_row(range, j, params.geometry.plane, channels);
    if OUTER {
        return range.outer * channels + index;
    }
    return index;
}

// Of the group that follows in memory. Plans that mask groups give each lane one column.
fn next_statistics_index(range: LaneRange, j: u32) -> vec4<u32> {
    if OUTER {
        return (statistics_index(range, j) + params.geometry.channels) % params.geometry.statistics;
    }
    return statistics_index(range, j);
}

fn parameter_index(range: LaneRange, j: u32) -> vec4<u32> {
    if SAME_INDEX {
        return statistics_index(range, j);
    }
    let own = params.geometry.sample_parameters;
    let index = index_in_row(range, j, params.geometry.parameter_plane, own);
    if !PER_SAMPLE {
        return index;
    }
    // The row is the whole tensor: samples that are outer groups have the index of their statistics.
    let samples = params.geometry.parameters / own;
    return index_in_row(range, j, params.geometry.sample_values, samples) * own + index;
}

// Of the group that follows in memory. Where samples share their parameters, columns keep them in every group.
fn next_parameter_index(range: LaneRange, j: u32) -> vec4<u32> {
    let index = parameter_index(range, j);
    if PER_SAMPLE && OUTER {
        return (index + params.geometry.sample_parameters) % params.geometry.parameters;
    }
    return index;
}
