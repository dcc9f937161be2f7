// Combines the moments of the parts of a batch: one set of rows [mean: M] [mean_low: M] [m2: M] [count: M] for each
// part, `part_stride` floats apart. The mean is the sum of the first two rows.

#import params
#import monoid
#bind read parts: array<f32>

// The moments of one statistic in one part.
fn moments_of_part(part: u32, index: u32) -> Entry {
    let statistics = params.geometry.statistics;
    let there = part < params.reduction.parts;
    // A part that is not there lies beyond the buffer.
    let at = select(0u, part * params.reduction.part_stride, there) + index;
    let moments = vec4(parts[at], parts[at + statistics], parts[at + 2u * statistics], parts[at + 3u * statistics]);
    return select(Entry(), moments, there);
}

// Combines every `rows`-th group of four parts, beginning with group `row`.
fn combine_entries(index: u32, row: u32, rows: u32) -> Partial {
    var total = identity();
    for (var first = 4u * row; first < params.reduction.parts; first += 4u * rows) {
        total = combine(total, partial_of(array<Entry, 4>(
            moments_of_part(first, index),
            moments_of_part(first + 1u, index),
            moments_of_part(first + 2u, index),
            moments_of_part(first + 3u, index),
        )));
    }
    return total;
}
