// The sums over a lane's range that backward needs, for each of its columns: of the gradient g of the normalized
// values, and of x_hat * g.

#import backward_coefficients
#import epilogue_backward
#import layout
#import x
#import monoid

// The terms of one vector.
fn sums_of_values(at: Place, x: vec4<f32>, gradient: vec4<f32>, statistics: Statistics) -> Partial {
    // Selected, not multiplied by zero: components outside may be NaN.
    let inside = select(vec4(0.0), gradient, at.inside);
    let x_hat = select(vec4(0.0), standardize(x, statistics), at.inside);
    return Partial(inside, x_hat * inside);
}

// The same, with the vector loaded.
fn sums_at(at: Place, c: BackwardCoefficients) -> Partial {
    let x = x_at(at.vector);
    return sums_of_values(at, x, epilogue_backward(at, x, c.forward), c.statistics);
}

fn accumulate_sums(
    range: LaneRange,
    own: ptr<function, array<BackwardCoefficients, COLUMNS>>,
    totals: ptr<function, array<Partial, COLUMNS>>,
) {
    let team_rows = params.geometry.team_rows;
    for (var j = 0u; j < COLUMNS; j++) {
        (*totals)[j] = identity();
    }
    var cursor = cursor_at(range);
    var item = range.item;
    // Several columns are neighbours in memory, and are best read row by row.
    if COLUMNS == 1u {
        for (; item + 3u * team_rows < range.end; item += 4u * team_rows) {
            let p0 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p1 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p2 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p3 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let first = combine(sums_at(p0, (*own)[0]), sums_at(p1, (*own)[0]));
            let second = combine(sums_at(p2, (*own)[0]), sums_at(p3, (*own)[0]));
            (*totals)[0] = combine((*totals)[0], combine(first, second));
        }
    }
    for (; item < range.end; item += team_rows) {
        for (var j = 0u; j < COLUMNS; j++) {
            (*totals)[j] = combine((*totals)[j], sums_at(place(range, cursor, j), (*own)[j]));
        }
        cursor = cursor_next(cursor);
    }
}
