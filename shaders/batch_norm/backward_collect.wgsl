// The sums of the incoming gradient g and of x_hat * g along a lane's walk, for each of its columns. The
// kernel binds `x`.

#import backward_coefficients
#import incoming
#import layout
#import element
#import monoid

// What a vector adds.
fn sums_at(at: Place, x: vec4<f32>, gradient: vec4<f32>, statistics: Statistics) -> Partial {
    // Selected, not multiplied by zero: what is outside may be NaN.
    let inside = select(vec4(0.0), gradient, at.inside);
    let x_hat = select(vec4(0.0), standardize(x, statistics), at.inside);
    return Partial(inside, x_hat * inside);
}

// What the vector at one place adds.
fn sums_of(at: Place, c: BackwardCoefficients) -> Partial {
    let x = decode(x[at.vector]);
    return sums_at(at, x, incoming(at, x, c.forward), c.statistics);
}

fn collect_backward(
    walk: Walk,
    own: ptr<function, array<BackwardCoefficients, COLUMNS>>,
    totals: ptr<function, array<Partial, COLUMNS>>,
) {
    let step = params.geometry.step;
    for (var j = 0u; j < COLUMNS; j++) {
        (*totals)[j] = identity();
    }
    var cursor = cursor_at(walk);
    var item = walk.item;
    // Several columns are neighbours in memory, and are best read row by row.
    if COLUMNS == 1u {
        for (; item + 3u * step < walk.end; item += 4u * step) {
            let p0 = place(walk, cursor, 0u);
            cursor = cursor_next(cursor);
            let p1 = place(walk, cursor, 0u);
            cursor = cursor_next(cursor);
            let p2 = place(walk, cursor, 0u);
            cursor = cursor_next(cursor);
            let p3 = place(walk, cursor, 0u);
            cursor = cursor_next(cursor);
            let first = combine(sums_of(p0, (*own)[0]), sums_of(p1, (*own)[0]));
            let second = combine(sums_of(p2, (*own)[0]), sums_of(p3, (*own)[0]));
            (*totals)[0] = combine((*totals)[0], combine(first, second));
        }
    }
    for (; item < walk.end; item += step) {
        for (var j = 0u; j < COLUMNS; j++) {
            (*totals)[j] = combine((*totals)[j], sums_of(place(walk, cursor, j), (*own)[j]));
        }
        cursor = cursor_next(cursor);
    }
}
