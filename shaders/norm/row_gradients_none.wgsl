// Other kernels make the gradients of parameters.

#import lane_range
#import monoid

const ROW_GRADIENTS = false;

fn leave_row_gradients(range: LaneRange, item: u32, sums: Partial) {}
