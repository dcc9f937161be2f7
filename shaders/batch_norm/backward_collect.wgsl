// The sums of the incoming gradient g and of x_hat * g along a lane's walk. The kernel binds `x`.

#import backward_coefficients
#import incoming
#import layout
#import element
#import monoid

// What the vector at one place adds.
fn sums_at(at: Place, x: vec4<f32>, gradient: vec4<f32>, statistics: Statistics) -> Partial {
    // Selected, not multiplied by zero: what is outside may be NaN.
    let inside = select(vec4(0.0), gradient, at.inside);
    let x_hat = select(vec4(0.0), standardize(x, statistics), at.inside);
    return Partial(inside, x_hat * inside);
}

fn collect_backward(walk: Walk, own: BackwardCoefficients) -> Partial {
    let step = params.geometry.step;
    var total = identity();
    var cursor = cursor_at(walk);
    for (var item = walk.item; item < walk.end; item += 2u * step) {
        let p0 = place(walk, cursor, true);
        cursor = cursor_next(cursor);
        let p1 = place(walk, cursor, item + step < walk.end);
        cursor = cursor_next(cursor);
        let x0 = decode(x[p0.vector]);
        let x1 = decode(x[p1.vector]);
        let g0 = incoming(p0, x0, own.forward);
        let g1 = incoming(p1, x1, own.forward);
        let pair = combine(sums_at(p0, x0, g0, own.statistics), sums_at(p1, x1, g1, own.statistics));
        total = combine(total, pair);
    }
    return total;
}
