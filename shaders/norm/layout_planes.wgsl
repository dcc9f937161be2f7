// (N, C, S): a channel is N planes of S neighbouring values. A unit is a channel, or WIDTH * COLUMNS planes side by side. An
// item is one vector of the aligned window around one plane. A plane of odd extent shares its first and last vector with its
// neighbours: a reduction masks their components, and an elementwise pass writes the vectors that *begin* in the plane.
//
// S is at least 4, so that a vector has values of at most two channels.

#import lane_range
// Planes of a lane, WIDTH apart. They are more than one where the parameters of a vector serve the same vector of each.
#const COLUMNS

// The four components of a vector share statistics.
const COMPONENTS_SHARE = true;

// Columns that are best read together, row by row. Planes are no neighbours in memory, so that each is read alone.
const COLUMNS_TOGETHER = 1u;

// The lane that an invocation is. Several planes stand across, and lanes of one plane are to read neighbouring vectors: they
// are neighbouring invocations.
fn lane_of(invocation: u32) -> u32 {
    if WIDTH == 1u {
        return invocation;
    }
    let rows = WORKGROUP / WIDTH;
    return invocation % rows * WIDTH + invocation / rows;
}

// Planes have whole parameters.
fn plane_parameters() -> u32 {
    return params.geometry.plane / params.geometry.parameter_plane;
}

// Of a plane, counted from the first of the tensor. After the last one comes the first.
fn first_parameter(plane: u32) -> u32 {
    let own = params.geometry.sample_parameters;
    let in_sample = plane * plane_parameters() % own;
    if PER_SAMPLE {
        let sample_planes = params.geometry.sample_values / params.geometry.plane;
        return (plane / sample_planes * own + in_sample) % params.geometry.parameters;
    }
    return in_sample;
}

fn lane_range(work: u32, lane: u32) -> LaneRange {
    var range = unclipped_range(work, lane);
    range.unit = range.unit * COLUMNS * WIDTH + range.column;
    let plane_of_all = range.outer * params.geometry.channels + range.unit;
    range.parameter = first_parameter(plane_of_all);
    range.next_parameter = first_parameter(plane_of_all + 1u);
    if !has_values(range, 0u) {
        range.end = 0u;
    }
    let span = params.geometry.span;
    let plane = params.geometry.plane;
    let channels = params.geometry.channels;
    if OUTER {
        // The last outer group may have fewer samples.
        let rest = params.geometry.elements - range.outer * params.geometry.outer_values;
        range.end = min(range.end, rest / (channels * plane) * span);
    }
    if MASKED && !OUTER && params.geometry.item_end - params.geometry.item_begin == span {
        // The lane's planes may all lie outside of the bound window.
        let begin = (params.geometry.item_begin / span * channels + range.unit) * plane;
        let window_begin = params.geometry.vector_begin;
        let last = min(range.unit + (COLUMNS - 1u) * WIDTH, channels - 1u);
        let end = (params.geometry.item_begin / span * channels + last) * plane + plane;
        if (end + 3u) / 4u <= window_begin || begin / 4u >= params.geometry.vector_end {
            range.end = 0u;
        }
    }
    return range;
}

struct Cursor {
    // The first value of the plane.
    plane_begin: u32,
    // Vectors from the first of the window around the plane.
    offset: u32,
    // If planes are whole vectors: the vector, so that a step costs an addition, not a product.
    vector: u32,
}

// Values from a plane to the next one of the same channel.
fn plane_stride() -> u32 {
    return params.geometry.channels * params.geometry.plane;
}

fn cursor_at(range: LaneRange) -> Cursor {
    var sample = range.item / params.geometry.span;
    if OUTER {
        sample += range.outer * (params.geometry.outer_items / params.geometry.span);
    }
    let offset = range.item % params.geometry.span;
    let plane_begin = sample * plane_stride() + range.unit * params.geometry.plane;
    return Cursor(plane_begin, offset, plane_begin / 4u + offset);
}

fn cursor_next(cursor: Cursor) -> Cursor {
    let span = params.geometry.span;
    let offset = cursor.offset + params.geometry.step_offset;
    let planes = params.geometry.step_samples * plane_stride();
    let wraps = offset >= span;
    let vectors = params.geometry.step_offset + planes / 4u;
    return Cursor(
        cursor.plane_begin + select(planes, planes + plane_stride(), wraps),
        offset - select(0u, span, wraps),
        cursor.vector + select(vectors, vectors + plane_stride() / 4u - span, wraps),
    );
}

// value / parameter_plane for values counted from the first of a plane: the number of parameters before them. The product
// with the reciprocal is at most 1 away from it.
fn parameters_before(value: vec4<u32>) -> vec4<u32> {
    let plane = params.geometry.parameter_plane;
    if plane == 1u {
        return value;
    }
    let near = vec4<u32>(vec4<f32>(value) * params.geometry.inverse_parameter_plane);
    let too_many = near * plane > value;
    let below = near - vec4<u32>(too_many);
    return below + vec4<u32>(value - below * plane >= vec4(plane));
}

// The parameters of values counted from the first of the plane, of which some may lie in the next one.
fn parameters_of(range: LaneRange, value: vec4<u32>) -> vec4<u32> {
    let before = parameters_before(value);
    let own = plane_parameters();
    return select(range.parameter + before, range.next_parameter + before - own, before >= vec4(own));
}

fn place(range: LaneRange, cursor: Cursor, j: u32) -> Place {
    let steps = vec4(0u, 1u, 2u, 3u);
    if !MASKED {
        // Reductions read planes that are not there, too: they read the first again.
        let there = COLUMNS == 1u || has_values(range, j);
        let vector = cursor.vector + select(0u, j * WIDTH * params.geometry.span, there);
        let varying_index = parameters_of(range, 4u * cursor.offset + steps);
        return Place(vector, vec4(there), vec4(false), there, varying_index);
    }
    let plane = params.geometry.plane;
    let begin = cursor.plane_begin + j * WIDTH * plane;
    let vector = begin / 4u + cursor.offset;
    let bound = has_values(range, j) && vector >= params.geometry.vector_begin && vector < params.geometry.vector_end;
    // Reductions read vectors that are not bound, too, and select them away.
    let index = select(0u, vector - params.geometry.vector_begin, bound);
    // Counted from the first value of the plane. The up to three before it wrap around.
    let value = 4u * vector - begin + steps;
    let begun = value < vec4(0xfffffffdu);
    return Place(
        index,
        (value < vec4(plane)) & vec4(bound),
        begun & (value >= vec4(plane)),
        bound && value.x < plane,
        parameters_of(range, select(vec4(0u), value, begun)),
    );
}

// The last of several planes side by side may be beyond the tensor.
fn has_values(range: LaneRange, j: u32) -> bool {
    return (WIDTH == 1u && COLUMNS == 1u) || range.unit + j * WIDTH < params.geometry.channels;
}

fn statistics_of_plane(range: LaneRange, j: u32) -> u32 {
    // Planes side by side may be beyond the tensor.
    let plane = min(range.unit + j * WIDTH, params.geometry.channels - 1u);
    if OUTER {
        return range.outer * params.geometry.channels + plane;
    }
    return plane;
}

// The entry of a chunk that the lane's first component has: one for each statistic.
fn partial_component(range: LaneRange, j: u32) -> u32 {
    return statistics_of_plane(range, j);
}

fn statistics_index(range: LaneRange, j: u32) -> vec4<u32> {
    return vec4(statistics_of_plane(range, j));
}

// Of the plane that follows in memory. Outer groups of several samples have two such planes, and take no elementwise
// pass with masks.
fn next_statistics_index(range: LaneRange, j: u32) -> vec4<u32> {
    return vec4((statistics_of_plane(range, j) + 1u) % params.geometry.statistics);
}

fn parameter_index(range: LaneRange, j: u32) -> vec4<u32> {
    if SAME_INDEX {
        return statistics_index(range, j);
    }
    return vec4((range.unit + j * WIDTH) % params.geometry.parameters);
}

fn next_parameter_index(range: LaneRange, j: u32) -> vec4<u32> {
    if SAME_INDEX {
        return next_statistics_index(range, j);
    }
    return vec4((range.unit + 1u) % params.geometry.parameters);
}
