// What is combined: sets of moments, one after another, each the rows [mean: C] [residual: C] [m2: C] [count: C].
// The mean is the sum of the first two.

#import params
#import monoid

@group(0) @binding(1) var<storage, read> sets: array<f32>;

// A field of four sets.
fn field_at(at: vec4<u32>, field: u32, there: vec4<bool>) -> vec4<f32> {
    let first = at + vec4(field * params.geometry.channels);
    let values = vec4(sets[first.x], sets[first.y], sets[first.z], sets[first.w]);
    return select(vec4(0.0), values, there);
}

fn gather(channel: u32, row: u32, rows: u32) -> Partial {
    var total = identity();
    for (var first = 4u * row; first < params.partial_chunk; first += 4u * rows) {
        let index = first + vec4(0u, 1u, 2u, 3u);
        let at = index * (FIELDS * params.geometry.channels) + channel;
        let there = index < vec4(params.partial_chunk);
        total = combine(total, partial_of(array(
            field_at(at, 0u, there),
            field_at(at, 1u, there),
            field_at(at, 2u, there),
            field_at(at, 3u, there),
        )));
    }
    return total;
}
