// dx along a lane's walk. The kernel binds `x` and `affine`.

#import backward_coefficients
#import incoming
#import layout
#import element

fn apply_backward_at(at: Place, c: BackwardCoefficients) {
    let x = decode(x[at.vector]);
    store_dx(at.vector, outgoing(x, incoming(at, x, c.forward), c));
}

// `beyond` serves the components that belong to the channel after the lane's own.
fn apply_backward(
    walk: Walk,
    own: ptr<function, array<BackwardCoefficients, COLUMNS>>,
    beyond: BackwardCoefficients,
) {
    let step = params.geometry.step;
    var cursor = cursor_at(walk);
    var item = walk.item;
    // Several columns are neighbours in memory, and are best read row by row.
    if !MASKED && COLUMNS == 1u {
        for (; item + step < walk.end; item += 2u * step) {
            let p0 = place(walk, cursor, 0u);
            cursor = cursor_next(cursor);
            let p1 = place(walk, cursor, 0u);
            cursor = cursor_next(cursor);
            apply_backward_at(p0, (*own)[0]);
            apply_backward_at(p1, (*own)[0]);
        }
    }
    for (; item < walk.end; item += step) {
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(walk, cursor, j);
            if at.owned {
                apply_backward_at(at, choose_backward((*own)[j], beyond, at.beyond));
            }
        }
        cursor = cursor_next(cursor);
    }
}
