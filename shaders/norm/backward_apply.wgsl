// Writes dx for a lane's range.

#import backward_coefficients
#import epilogue_backward
#import layout
#import x
#import element
#import dx

// `next` serves the components with the next statistics in memory.
fn coefficients_at(at: Place, own: BackwardCoefficients, next: BackwardCoefficients, v: Varying) -> BackwardCoefficients {
    return with_varying(select_backward_coefficients(own, next, at.next), v);
}

fn backward_apply(
    range: LaneRange,
    own: ptr<function, array<BackwardCoefficients, COLUMNS>>,
    next: BackwardCoefficients,
) {
    let team_rows = params.geometry.team_rows;
    var cursor = cursor_at(range);
    var item = range.item;
    // Several columns are taken side by side: they are neighbours in memory, or share parameters.
    if COLUMNS == 1u {
        for (; item + team_rows < range.end; item += 2u * team_rows) {
            var p0 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            var p1 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let some = owned_or(p0, p1);
            if some.owned {
                p0 = owned_or(p0, some);
                p1 = owned_or(p1, some);
                let c0 = coefficients_at(p0, (*own)[0], next, varying_at(p0));
                let c1 = coefficients_at(p1, (*own)[0], next, varying_at(p1));
                let x0 = decode(load_x(p0.vector));
                let x1 = decode(load_x(p1.vector));
                let gradient0 = epilogue_backward(p0, x0, c0.forward);
                let gradient1 = epilogue_backward(p1, x1, c1.forward);
                store_dx(p0.vector, input_gradient(x0, gradient0, c0));
                store_dx(p1.vector, input_gradient(x1, gradient1, c1));
            }
        }
    }
    for (; item < range.end; item += team_rows) {
        // Where parameters vary, all columns of a lane share them.
        let first = varying_at(place(range, cursor, 0u));
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(range, cursor, j);
            if at.owned {
                let c = coefficients_at(at, (*own)[j], next, first);
                let x = decode(load_x(at.vector));
                store_dx(at.vector, input_gradient(x, epilogue_backward(at, x, c.forward), c));
            }
        }
        cursor = cursor_next(cursor);
    }
}
