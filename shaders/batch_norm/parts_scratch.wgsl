// What is combined: the partial results that a pass over memory left in scratch.

#import gather_partials

@group(0) @binding(1) var<storage, read> scratch: array<Entry>;

fn gather(channel: u32, row: u32, rows: u32) -> Partial {
    return gather_partials(channel, row, rows);
}
