// Which values a lane visits. A lane is one invocation.
//
// A tensor is cut into units: WIDTH planes, or a strip of columns, of one outer group. A unit is cut into items, and
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

// Whether each sample has parameters of its own.
override PER_SAMPLE: bool = false;

// Whether the values that a lane visits in one column have different parameters, or different statistics. `Place.varying_index`
// holds their index then. If not, a lane keeps what they make for its whole range.
override PARAMETERS_VARY: bool = false;
override STATISTICS_VARY: bool = false;

// Whether the four components of a vector share parameters, and statistics.
override PARAMETERS_SHARE: bool = false;
override STATISTICS_SHARE: bool = false;

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
    // In planes: the first parameter of the lane's plane, and of the plane that follows in memory.
    parameter: u32,
    next_parameter: u32,
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
    // The index of what varies along the range: in planes the parameters, in columns the statistics.
    varying_index: vec4<u32>,
}

// The place if the lane owns it, and else the other one.
//
// For passes that take several vectors at a time. Branches would keep their loads apart, so a lane takes a vector that it
// owns twice instead of one that it does not, and writes the same values twice. All are read before one is written, because it
// may be in place.
fn owned_or(at: Place, other: Place) -> Place {
    if at.owned {
        return at;
    }
    return other;
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
        0u,
        0u,
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
