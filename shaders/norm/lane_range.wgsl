// Which values a lane visits. A lane is one invocation.
//
// A tensor is cut into units: one channel, or a strip of columns, of one outer group. A unit is cut into items, and
// items into chunks. A workgroup takes one chunk of one unit. `WIDTH` lanes stand across an item; the rows of lanes form
// teams of `team_rows`. A team walks contiguous items, `team_rows` at a time, so that neighbouring lanes read
// neighbouring vectors. A team that runs alone for a while, as on a software adapter, still walks memory in order.
//
// The file in slot `layout` says what an item is.

#import grid

// Whether a vector may hold values of two statistics, or lie outside of the tensor or of the bound window. If not,
// each vector that a lane visits is four values of the lane's own statistics.
override MASKED: bool = true;

// Whether the parameters of a value have the index of its statistics.
override SAME_INDEX: bool = true;

struct LaneRange {
    outer: u32,
    // Counted within the outer group.
    unit: u32,
    chunk: u32,
    // The lane's place across.
    column: u32,
    // The lane's first item, and the end of its team's items. Both count from the first item of the unit.
    item: u32,
    end: u32,
}

// One vector of a lane's range.
struct Place {
    // Index into the bound vectors; 0 if the vector is not bound.
    vector: u32,
    // The components with the lane's own statistics.
    inside: vec4<bool>,
    // The components with the next statistics in memory.
    next: vec4<bool>,
    // Whether the lane writes this vector in an elementwise pass. Each vector has one such lane.
    owned: bool,
}

// The lane's range before the layout takes away what the lane has no values in.
fn unclipped_range(work: u32, lane: u32) -> LaneRange {
    let chunk = work / params.geometry.units;
    let unit = work % params.geometry.units;
    let row = lane / WIDTH;
    let chunk_begin = params.geometry.item_begin + chunk * params.geometry.chunk;
    let team_begin = chunk_begin + row / params.geometry.team_rows * params.geometry.team_items;
    var range = LaneRange(
        0u,
        unit,
        chunk,
        lane % WIDTH,
        team_begin + row % params.geometry.team_rows,
        min(
            team_begin + params.geometry.team_items,
            min(chunk_begin + params.geometry.chunk, params.geometry.item_end),
        ),
    );
    if OUTER {
        range.outer = unit / params.geometry.outer_units;
        range.unit = unit % params.geometry.outer_units;
    }
    return range;
}

// Number of items in a lane's range.
fn items(range: LaneRange) -> u32 {
    let team_rows = params.geometry.team_rows;
    return (max(range.end, range.item) - range.item + team_rows - 1u) / team_rows;
}
