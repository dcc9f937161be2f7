// Combines the partial results of a channel, whichever chunks, columns and components they stand in.
// The kernel binds `scratch`.

#import partials

// The float of the first field of one of a channel's entries; the other fields follow 4 floats apart.
fn entry_at(channel: u32, entry: u32) -> u32 {
    let in_chunk = params.partial_periods * params.partial_plane;
    let period = entry % in_chunk / params.partial_plane;
    let component = (period * params.geometry.channels + channel) * params.partial_plane
        + entry % params.partial_plane;
    return partial_at(entry / in_chunk, component / 4u) + component % 4u;
}

// Every `rows`-th group of four of the channel's entries.
fn gather_partials(channel: u32, row: u32, rows: u32) -> Partial {
    var total = identity();
    let entries = params.partial_chunk * params.partial_periods * params.partial_plane;
    for (var first = 4u * row; first < entries; first += 4u * rows) {
        var fields = fields_of(identity());
        for (var c = 0u; c < 4u; c++) {
            if first + c < entries {
                let at = entry_at(channel, first + c);
                for (var f = 0u; f < FIELDS; f++) {
                    fields[f][c] = scratch[at + 4u * f];
                }
            }
        }
        total = combine(total, partial_of(fields));
    }
    return total;
}
