// Adds the sums of the units that share a parameter, which wait at the head of scratch memory.

#import params
#import monoid
#bind read scratch: array<Entry>

fn entry_of_unit(unit: u32, index: u32) -> Entry {
    let at = unit * params.geometry.parameters + index;
    let there = at < params.geometry.statistics;
    // A unit that is not there may lie beyond the head.
    return select(Entry(), scratch[select(0u, at, there)], there);
}

// Combines every `rows`-th group of four units, beginning with group `row`.
fn combine_entries(index: u32, row: u32, rows: u32) -> Partial {
    let units = params.geometry.statistics / params.geometry.parameters;
    var total = identity();
    for (var first = 4u * row; first < units; first += 4u * rows) {
        total = combine(total, partial_of(array<Entry, 4>(
            entry_of_unit(first, index),
            entry_of_unit(first + 1u, index),
            entry_of_unit(first + 2u, index),
            entry_of_unit(first + 3u, index),
        )));
    }
    return total;
}
