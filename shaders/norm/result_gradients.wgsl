// Sums become the gradients of weight and bias, and wait at the head of scratch memory for the pass that writes dx.

#import write_parameter_gradients
#import monoid
#bind write scratch: array<Entry>

fn result_count() -> u32 {
    return params.geometry.statistics;
}

fn write_result(index: u32, total: Partial) {
    write_parameter_gradients(index, total, 0u);
    scratch[index] = entries_of(total)[0];
}
