// Sums of groups wait behind those of channels for the pass that writes dx.

#import params
#import monoid
#bind write scratch: array<Entry>

fn result_count() -> u32 {
    return params.geometry.saved_statistics;
}

fn write_result(index: u32, total: Partial) {
    scratch[params.geometry.statistics + index] = entries_of(total)[0];
}
