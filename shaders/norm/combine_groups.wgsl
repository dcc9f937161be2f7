// Adds the sums of the channels of a group, each times its weight. They wait at the head of scratch memory.

#import params
#import affine
#import monoid
#bind read scratch: array<Entry>

fn entry_of_channel(there: bool, at: u32) -> Entry {
    // A channel that is not there may lie beyond the head.
    return select(Entry(), scratch[select(0u, at, there)], there);
}

// Combines every `rows`-th group of four channels, beginning with group `row`.
fn combine_entries(index: u32, row: u32, rows: u32) -> Partial {
    let channels = params.geometry.statistics / params.geometry.saved_statistics;
    var total = identity();
    for (var first = 4u * row; first < channels; first += 4u * rows) {
        let channel = first + vec4(0u, 1u, 2u, 3u);
        let there = channel < vec4(channels);
        let at = index * channels + channel;
        let sums = partial_of(array<Entry, 4>(
            entry_of_channel(there.x, at.x),
            entry_of_channel(there.y, at.y),
            entry_of_channel(there.z, at.z),
            entry_of_channel(there.w, at.w),
        ));
        let weight = weights(select(vec4(0u), at % params.geometry.parameters, there));
        total = combine(total, Partial(sums.g * weight, sums.x_hat_g * weight));
    }
    return total;
}
