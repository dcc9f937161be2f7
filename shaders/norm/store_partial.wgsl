// Stores partial results in `scratch`, chunk by chunk: an entry for each component that has one. One partial result is
// stored contiguously, so that it is one load and one store.

#import params
#import monoid
#import layout
#import store_entries

// Stores the partial result of column `j`. One lane does it.
fn store_partial(range: LaneRange, j: u32, partial: Partial) {
    let chunk = params.reduction.first_chunk + range.chunk;
    let at = params.reduction.head + chunk * params.reduction.chunk_stride + partial_component(range, j);
    // Components that share statistics have one entry. Others are neighbours.
    if COMPONENTS_SHARE {
        scratch[at] = entries_of(partial)[0];
    } else {
        store_entries(at, partial);
    }
}
