// Leaves a partial result in scratch memory, one invocation for each column. The kernel binds `scratch`,
// writable.

#import partials
#import layout

fn store_partial(walk: Walk, j: u32, partial: Partial) {
    let at = entry_at(params.partial_chunk + walk.chunk, partial_component(walk, j));
    let entries = entries_of(partial);
    scratch[at] = entries[0];
    // A channel's partial is one entry; those of columns stand together.
    if !UNIT_IS_CHANNEL {
        scratch[at + 1u] = entries[1];
        scratch[at + 2u] = entries[2];
        scratch[at + 3u] = entries[3];
    }
}
