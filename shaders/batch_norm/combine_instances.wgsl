// Adds the moments of the instances of each channel, which are in the rows [mean: N C] [mean_low: N C] [m2: N C]
// [count: N C] for N samples, each row `part_stride` floats. A mean counts from that of the first sample: means far above
// their differences lose no digits.

#import params
#import monoid
#bind read moments: array<f32>

// The mean of a channel of one sample, and its squared deviations.
fn moments_of_instance(sample: u32, channel: u32) -> Entry {
    let row = params.reduction.part_stride;
    let there = sample < params.reduction.parts;
    // A sample that is not there lies beyond the row.
    let at = select(0u, sample * params.geometry.statistics, there) + channel;
    let mean = (moments[at] - moments[channel]) + moments[row + at];
    return select(Entry(), Entry(mean, moments[2u * row + at]), there);
}

// Combines every `rows`-th group of four samples, beginning with group `row`.
fn combine_entries(index: u32, row: u32, rows: u32) -> Partial {
    var total = identity();
    for (var first = 4u * row; first < params.reduction.parts; first += 4u * rows) {
        total = combine(total, partial_of(array<Entry, 4>(
            moments_of_instance(first, index),
            moments_of_instance(first + 1u, index),
            moments_of_instance(first + 2u, index),
            moments_of_instance(first + 3u, index),
        )));
    }
    return total;
}
