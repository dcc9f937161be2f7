// Stores the entries of four components that are neighbours in `scratch`.

#import monoid
#bind write scratch: array<Entry>

fn store_entries(at: u32, partial: Partial) {
    let entries = entries_of(partial);
    scratch[at] = entries[0];
    scratch[at + 1u] = entries[1];
    scratch[at + 2u] = entries[2];
    scratch[at + 3u] = entries[3];
}
