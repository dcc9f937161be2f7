// Leaves a partial result in scratch memory, one invocation for each column. The kernel binds `scratch`,
// writable.

#import partials
#import layout

fn store_field(at: u32, field: vec4<f32>) {
    // A channel's partial is one of the four components that stand together.
    scratch[at] = field.x;
    if !UNIT_IS_CHANNEL {
        scratch[at + 1u] = field.y;
        scratch[at + 2u] = field.z;
        scratch[at + 3u] = field.w;
    }
}

fn store_partial(walk: Walk, j: u32, partial: Partial) {
    let component = partial_component(walk, j);
    let at = partial_at(params.partial_chunk + walk.chunk, component / 4u) + component % 4u;
    let fields = fields_of(partial);
    store_field(at, fields[0]);
    store_field(at + 4u, fields[1]);
    if FIELDS > 2u {
        store_field(at + 8u, fields[2]);
        store_field(at + 12u, fields[3]);
    }
}
