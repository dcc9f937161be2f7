// Combines the partial results of a channel, whichever chunks, columns and components they stand in.
// The kernel binds `scratch`.

#import partials

// The floats at which the first fields of four of a channel's entries stand; the other fields follow 4 floats
// apart. `entry` counts through the channel's entries in a chunk.
fn entries_at(channel: u32, chunk: vec4<u32>, entry: vec4<u32>) -> vec4<u32> {
    let plane = params.partial_plane;
    // entry / plane, at most three: divisions are slow, on processors above all.
    let period = vec4<u32>(entry >= vec4(plane))
        + vec4<u32>(entry >= vec4(2u * plane))
        + vec4<u32>(entry >= vec4(3u * plane));
    let component = (period * params.geometry.channels + channel) * plane + (entry - period * plane);
    let column = chunk * params.partial_columns + component / vec4(4u);
    return params.partials + column * PARTIAL_FLOATS + component % vec4(4u);
}

// A field of four entries.
fn field_at(at: vec4<u32>, field: u32, there: vec4<bool>) -> vec4<f32> {
    let first = at + vec4(4u * field);
    let values = vec4(scratch[first.x], scratch[first.y], scratch[first.z], scratch[first.w]);
    return select(vec4(0.0), values, there);
}

// Every `rows`-th group of four of the channel's entries.
fn gather_partials(channel: u32, row: u32, rows: u32) -> Partial {
    let steps = vec4(0u, 1u, 2u, 3u);
    let in_chunk = params.partial_periods * params.partial_plane;
    // Four entries of a chunk, or where a chunk has one, of four chunks.
    let single = in_chunk == 1u;
    let in_groups = (in_chunk + 3u) / 4u;
    let groups = select(params.partial_chunk * in_groups, (params.partial_chunk + 3u) / 4u, single);
    var total = identity();
    for (var group = row; group < groups; group += rows) {
        let chunk = group / in_groups;
        let chunks = select(vec4(chunk), 4u * group + steps, single);
        let entry = select(4u * (group - chunk * in_groups) + steps, vec4(0u), single);
        let there = (entry < vec4(in_chunk)) & (chunks < vec4(params.partial_chunk));
        let at = entries_at(channel, chunks, entry);
        // Of the fields that the monoid does not have, nothing is read.
        total = combine(total, partial_of(array(
            field_at(at, 0u, there),
            field_at(at, 1u, there),
            field_at(at, 2u, there),
            field_at(at, 3u, there),
        )));
    }
    return total;
}
