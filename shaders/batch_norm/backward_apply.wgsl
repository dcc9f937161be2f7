// dx along a lane's walk. The kernel binds `x` and `affine`.

#import backward_coefficients
#import incoming
#import layout
#import element

// `beyond` serves the components that belong to the channel after the lane's own.
fn apply_backward(walk: Walk, own: BackwardCoefficients, beyond: BackwardCoefficients) {
    var cursor = cursor_at(walk);
    for (var item = walk.item; item < walk.end; item += params.geometry.step) {
        let at = place(walk, cursor, true);
        cursor = cursor_next(cursor);
        if at.owned {
            let c = choose_backward(own, beyond, at.beyond);
            let x = decode(x[at.vector]);
            store_dx(at.vector, outgoing(x, incoming(at, x, c.forward), c));
        }
    }
}
