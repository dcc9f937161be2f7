// Combines the partial results of a channel, whichever chunks, columns and components they stand in.
// The kernel binds `scratch`.

#import partials

// Where four of a channel's entries stand. `entry` counts through the channel's entries in a chunk.
fn entries_at(channel: u32, chunk: vec4<u32>, entry: vec4<u32>) -> vec4<u32> {
    let plane = params.partial_plane;
    // entry / plane, at most three: divisions are slow, on processors above all.
    let period = vec4<u32>(entry >= vec4(plane))
        + vec4<u32>(entry >= vec4(2u * plane))
        + vec4<u32>(entry >= vec4(3u * plane));
    let component = (period * params.geometry.channels + channel) * plane + (entry - period * plane);
    return params.partials + chunk * params.partial_components + component;
}

fn entry_if(there: bool, at: u32) -> Entry {
    // What is not there may be beyond the buffer.
    return select(Entry(), scratch[select(0u, at, there)], there);
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
        total = combine(total, partial_of(array<Entry, 4>(
            entry_if(there.x, at.x),
            entry_if(there.y, at.y),
            entry_if(there.z, at.z),
            entry_if(there.w, at.w),
        )));
    }
    return total;
}
