// Sums over all units of a parameter become the gradients of weight and bias.

#import write_parameter_gradients
#import monoid

fn result_count() -> u32 {
    return params.geometry.parameters;
}

fn write_result(index: u32, total: Partial) {
    write_parameter_gradients(index, total, 0u);
}
