// What is combined: sets of moments, one after another, each the rows [mean: C] [residual: C] [m2: C] [count: C].
// The mean is the sum of the first two.

#import params
#import monoid

@group(0) @binding(1) var<storage, read> sets: array<f32>;

fn gather(channel: u32, row: u32, rows: u32) -> Partial {
    let channels = params.geometry.channels;
    var total = identity();
    for (var first = 4u * row; first < params.partial_chunk; first += 4u * rows) {
        var fields = fields_of(identity());
        for (var c = 0u; c < 4u; c++) {
            if first + c < params.partial_chunk {
                let at = (first + c) * FIELDS * channels + channel;
                for (var f = 0u; f < FIELDS; f++) {
                    fields[f][c] = sets[at + f * channels];
                }
            }
        }
        total = combine(total, partial_of(fields));
    }
    return total;
}
