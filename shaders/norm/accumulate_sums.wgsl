// The sums over a lane's range that backward needs, for each of its columns: of the gradient g of the normalized
// values, and of x_hat * g.

#import backward_coefficients
#import coefficients
#import standardize
#import settle
#import epilogue_backward
#import layout
#import x
#import element
#import monoid
#import row_gradients

// Items whose terms are added before the sum of these is. More would lose digits.
const BLOCK = 16u;

// Sums with twice the digits: a long walk of rounded sums would lose as many as it has steps.
struct LongSums {
    high: Partial,
    low: Partial,
}

fn no_sums() -> LongSums {
    return LongSums(identity(), identity());
}

// Adds the sums of a block.
fn with_sums(total: LongSums, block: Partial) -> LongSums {
    let g = settled(total.high.g, total.low.g + block.g);
    let x_hat_g = settled(total.high.x_hat_g, total.low.x_hat_g + block.x_hat_g);
    // An infinite sum has no rest.
    let none = vec4(0.0);
    return LongSums(
        Partial(g.high, x_hat_g.high),
        Partial(select(g.low, none, infinite(g.high)), select(x_hat_g.low, none, infinite(x_hat_g.high))),
    );
}

// The same in single f32.
fn rounded_sums(total: LongSums) -> Partial {
    return Partial(total.high.g + total.low.g, total.high.x_hat_g + total.low.x_hat_g);
}

// A workgroup's total, without what `nearly_standardized` has left in each term. Taken off the sums of each lane, it would
// round all of them to the same side.
fn without_rest(total: Partial, statistics: Statistics) -> Partial {
    if STATISTICS_VARY {
        return total;
    }
    let rest = (statistics.mean_low * statistics.inv_std) * total.g;
    return Partial(total.g, total.x_hat_g - select(rest, vec4(0.0), infinite(total.g)));
}

// The terms of one vector.
fn sums_of_values(at: Place, x: vec4<f32>, gradient: vec4<f32>, statistics: Statistics) -> Partial {
    // Selected, not multiplied by zero: components outside may be NaN.
    let inside = select(vec4(0.0), gradient, at.inside);
    var x_hat = nearly_standardized(x, statistics);
    if STATISTICS_VARY {
        // Sums of a column are the gradients of its parameters; those of a row make the means of dx.
        x_hat = before_weight(standardize(x, statistics));
    }
    return Partial(inside, select(vec4(0.0), x_hat, at.inside) * inside);
}

// One vector of x, the gradient of its normalized values, and the coefficients of both.
struct Values {
    x: vec4<f32>,
    gradient: vec4<f32>,
    c: BackwardCoefficients,
}

fn values_at(at: Place, own: BackwardCoefficients, v: Varying) -> Values {
    let x = decode(load_x(at.vector));
    let c = with_varying(own, v);
    return Values(x, epilogue_backward(at, x, c.forward), c);
}

fn sums_of(at: Place, values: Values) -> Partial {
    return sums_of_values(at, values.x, weighted(values.gradient, values.c), values.c.statistics);
}

fn sums_at(at: Place, own: BackwardCoefficients, v: Varying) -> Partial {
    return sums_of(at, values_at(at, own, v));
}

// What one vector of a row adds to the gradients of its parameters.
fn row_gradients_of(at: Place, values: Values) -> Partial {
    let gradient = select(vec4(0.0), values.gradient, at.inside);
    // Rows differ in what is left of their means, so that it cannot be taken off at the end.
    let x_hat = before_weight(standardize(values.x, values.c.statistics));
    return Partial(gradient, select(vec4(0.0), x_hat, at.inside) * gradient);
}

fn accumulate_sums(
    range: LaneRange,
    own: ptr<function, array<BackwardCoefficients, COLUMNS>>,
    totals: ptr<function, array<Partial, COLUMNS>>,
) {
    let team_rows = params.geometry.team_rows;
    var sums: array<LongSums, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        sums[j] = no_sums();
    }
    var cursor = cursor_at(range);
    var item = range.item;
    while item < range.end {
        let end = min(item + BLOCK * team_rows, range.end);
        for (var j = 0u; j < COLUMNS; j++) {
            (*totals)[j] = identity();
        }
        // Several columns are taken side by side: they are neighbours in memory, or share parameters.
        if COLUMNS == 1u && !ROW_GRADIENTS {
            for (; item + 3u * team_rows < end; item += 4u * team_rows) {
                let p0 = place(range, cursor, 0u);
                cursor = cursor_next(cursor);
                let p1 = place(range, cursor, 0u);
                cursor = cursor_next(cursor);
                let p2 = place(range, cursor, 0u);
                cursor = cursor_next(cursor);
                let p3 = place(range, cursor, 0u);
                cursor = cursor_next(cursor);
                let first = combine(sums_at(p0, (*own)[0], varying_at(p0)), sums_at(p1, (*own)[0], varying_at(p1)));
                let second = combine(sums_at(p2, (*own)[0], varying_at(p2)), sums_at(p3, (*own)[0], varying_at(p3)));
                (*totals)[0] = combine((*totals)[0], combine(first, second));
            }
        }
        for (; item < end; item += team_rows) {
            var varying_part = varying_at(place(range, cursor, 0u));
            var row_gradients = identity();
            for (var j = 0u; j < COLUMNS; j++) {
                let at = place(range, cursor, j);
                if columns_vary() {
                    varying_part = varying_at(at);
                }
                let values = values_at(at, (*own)[j], varying_part);
                (*totals)[j] = combine((*totals)[j], sums_of(at, values));
                if ROW_GRADIENTS {
                    row_gradients = combine(row_gradients, row_gradients_of(at, values));
                }
            }
            leave_row_gradients(range, item, row_gradients);
            cursor = cursor_next(cursor);
        }
        for (var j = 0u; j < COLUMNS; j++) {
            sums[j] = with_sums(sums[j], (*totals)[j]);
        }
    }
    for (var j = 0u; j < COLUMNS; j++) {
        (*totals)[j] = rounded_sums(sums[j]);
    }
}
