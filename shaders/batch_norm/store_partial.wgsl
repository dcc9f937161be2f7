// Leaves a partial result in scratch memory. The kernel binds `scratch`, writable.

#import partials

fn store_partial(chunk: u32, column: u32, partial: Partial) {
    let at = partial_at(params.partial_chunk + chunk, column);
    var fields = fields_of(partial);
    for (var f = 0u; f < FIELDS; f++) {
        for (var c = 0u; c < 4u; c++) {
            scratch[at + 4u * f + c] = fields[f][c];
        }
    }
}
