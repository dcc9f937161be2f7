// Writes dx for a lane's range.

#import backward_coefficients
#import epilogue_backward
#import layout
#import x
#import dx

fn backward_apply_at(at: Place, c: BackwardCoefficients, v: Varying) {
    let x = x_at(at.vector);
    let own = with_varying(c, v);
    store_dx(at.vector, input_gradient(x, epilogue_backward(at, x, own.forward), own));
}

// `next` serves the components with the next statistics in memory.
fn backward_apply(
    range: LaneRange,
    own: ptr<function, array<BackwardCoefficients, COLUMNS>>,
    next: BackwardCoefficients,
) {
    let team_rows = params.geometry.team_rows;
    var cursor = cursor_at(range);
    var item = range.item;
    // Several columns are neighbours in memory, and are best read row by row.
    if !MASKED && COLUMNS == 1u {
        for (; item + team_rows < range.end; item += 2u * team_rows) {
            let p0 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p1 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            backward_apply_at(p0, (*own)[0], varying_at(p0));
            backward_apply_at(p1, (*own)[0], varying_at(p1));
        }
    }
    for (; item < range.end; item += team_rows) {
        // Where parameters vary, all columns of a lane share them.
        let first = varying_at(place(range, cursor, 0u));
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(range, cursor, j);
            if at.owned {
                backward_apply_at(at, select_backward_coefficients((*own)[j], next, at.next), first);
            }
        }
        cursor = cursor_next(cursor);
    }
}
