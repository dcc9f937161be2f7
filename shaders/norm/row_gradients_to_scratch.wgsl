// A lane leaves what its rows add to the gradients of parameters: an entry for each value of a row, in a chunk of its own, or
// of the lanes that share its rows. Lanes with rows are the first, so that no chunk before their last is left out.

#import params
#import layout
#import monoid
#import store_entries

const ROW_GRADIENTS = true;

fn leave_row_gradients(range: LaneRange, item: u32, sums: Partial) {
    let chunk = range.unit / (COLUMNS * WIDTH) * WIDTH + range.column;
    store_entries(params.reduction.head + chunk * params.reduction.chunk_stride + 4u * item, sums);
}
