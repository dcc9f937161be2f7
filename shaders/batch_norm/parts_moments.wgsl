// What is combined: sets of moments, one after another, each the rows [mean: C] [residual: C] [m2: C] [count: C].
// The mean is the sum of the first two.

#import params
#import monoid

@group(0) @binding(1) var<storage, read> sets: array<f32>;

// A channel's moments in one set.
fn moments_in(index: u32, channel: u32) -> Entry {
    let channels = params.geometry.channels;
    let there = index < params.partial_chunk;
    // What is not there is beyond the buffer.
    let at = select(0u, 4u * index * channels, there) + channel;
    let moments = vec4(sets[at], sets[at + channels], sets[at + 2u * channels], sets[at + 3u * channels]);
    return select(Entry(), moments, there);
}

fn gather(channel: u32, row: u32, rows: u32) -> Partial {
    var total = identity();
    for (var first = 4u * row; first < params.partial_chunk; first += 4u * rows) {
        total = combine(total, partial_of(array<Entry, 4>(
            moments_in(first, channel),
            moments_in(first + 1u, channel),
            moments_in(first + 2u, channel),
            moments_in(first + 3u, channel),
        )));
    }
    return total;
}
