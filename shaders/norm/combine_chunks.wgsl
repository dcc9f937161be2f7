// Combines the partial results that a pass over memory has left in `scratch`, over all chunks, columns and components.

#import params
#import grid
#import monoid
#bind read scratch: array<Entry>

// Where four entries of a statistic are. `entry` counts the statistic's entries in a chunk.
fn entries_at(index: u32, chunk: vec4<u32>, entry: vec4<u32>) -> vec4<u32> {
    var channel = index;
    var first = params.reduction.head;
    if OUTER {
        channel = index % params.geometry.channels;
        first += index / params.geometry.channels * params.reduction.outer_stride;
    }
    let plane = params.reduction.plane;
    // entry / plane, which is at most three. Divisions are slow, above all on processors.
    let period = vec4<u32>(entry >= vec4(plane))
        + vec4<u32>(entry >= vec4(2u * plane))
        + vec4<u32>(entry >= vec4(3u * plane));
    let component = (period * params.geometry.channels + channel) * plane + (entry - period * plane);
    return first + chunk * params.reduction.chunk_stride + component;
}

fn entry_if(there: bool, at: u32) -> Entry {
    // An entry that is not there may lie beyond the buffer.
    return select(Entry(), scratch[select(0u, at, there)], there);
}

// Combines every `rows`-th group of four entries of a statistic, beginning with group `row`.
fn combine_entries(index: u32, row: u32, rows: u32) -> Partial {
    let steps = vec4(0u, 1u, 2u, 3u);
    let in_chunk = params.reduction.periods * params.reduction.plane;
    let chunks = params.reduction.chunks;
    // Four entries of one chunk, or one entry of four chunks if a chunk has one.
    let single = in_chunk == 1u;
    let in_groups = (in_chunk + 3u) / 4u;
    let groups = select(chunks * in_groups, (chunks + 3u) / 4u, single);
    var total = identity();
    for (var group = row; group < groups; group += rows) {
        let chunk = group / in_groups;
        let chunk_of = select(vec4(chunk), 4u * group + steps, single);
        let entry = select(4u * (group - chunk * in_groups) + steps, vec4(0u), single);
        let there = (entry < vec4(in_chunk)) & (chunk_of < vec4(chunks));
        let at = entries_at(index, chunk_of, entry);
        total = combine(total, partial_of(array<Entry, 4>(
            entry_if(there.x, at.x),
            entry_if(there.y, at.y),
            entry_if(there.z, at.z),
            entry_if(there.w, at.w),
        )));
    }
    return total;
}
