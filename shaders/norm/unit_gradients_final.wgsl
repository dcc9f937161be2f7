// Each parameter belongs to one unit, whose sums are the parameter's gradients.

#import write_parameter_gradients

fn write_unit_gradients(index: u32, total: Partial, c: u32) {
    write_parameter_gradients(index, total, c);
}
