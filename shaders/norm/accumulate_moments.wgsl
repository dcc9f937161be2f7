// The moments of the values in a lane's range, for each of its columns.
//
// The fast paths add vectors to a total of n values with mean m = pivot + offset and squared deviations M. Four vectors
// x0 to x3 have the mean x0 + o, o = (d1 + d2 + d3) / 4 with di = xi - x0, and the squared deviations
// o^2 + (d1 - o)^2 + (d2 - o)^2 + (d3 - o)^2. Their mean is delta = (x0 - pivot) + (o - offset) away from m, so that by
// Chan, Golub and LeVeque the total of n + 4 values has
//     offset + delta * 4 / (n + 4)   and   M + (those deviations) + delta^2 * n * 4 / (n + 4).
// The first vector of all becomes the pivot. Differences of values near each other are exact in f32.

#import params
#import layout
#import x
#import monoid

// The moments of four vectors in two passes over registers.
fn moments_of(values: array<vec4<f32>, 4>, inside: array<vec4<bool>, 4>) -> Partial {
    let zero = vec4(0.0);
    let last = select(select(zero, values[3], inside[3]), values[2], inside[2]);
    let pivot = select(select(last, values[1], inside[1]), values[0], inside[0]);
    // Masked components are selected away, not multiplied by zero: they may be NaN.
    let d0 = select(zero, values[0] - pivot, inside[0]);
    let d1 = select(zero, values[1] - pivot, inside[1]);
    let d2 = select(zero, values[2] - pivot, inside[2]);
    let d3 = select(zero, values[3] - pivot, inside[3]);
    let count = (vec4<f32>(inside[0]) + vec4<f32>(inside[1]))
        + (vec4<f32>(inside[2]) + vec4<f32>(inside[3]));
    let offset = ((d0 + d1) + (d2 + d3)) / max(count, vec4(1.0));
    let e0 = select(zero, d0 - offset, inside[0]);
    let e1 = select(zero, d1 - offset, inside[1]);
    let e2 = select(zero, d2 - offset, inside[2]);
    let e3 = select(zero, d3 - offset, inside[3]);
    return Partial(pivot, offset, (e0 * e0 + e1 * e1) + (e2 * e2 + e3 * e3), count);
}

// Adds four vectors to a total of `count` values in each component. Same result as `combine` with `moments_of` if
// nothing is masked. The caller keeps the count.
fn with_four(total: Partial, count: f32, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>) -> Partial {
    let pivot = select(total.pivot, x0, count == 0.0);
    let d1 = x1 - x0;
    let d2 = x2 - x0;
    let d3 = x3 - x0;
    let offset = 0.25 * (d1 + (d2 + d3));
    let e1 = d1 - offset;
    let e2 = d2 - offset;
    let e3 = d3 - offset;
    let m2 = (offset * offset + e1 * e1) + (e2 * e2 + e3 * e3);
    let share = 4.0 / (count + 4.0);
    let delta = (x0 - pivot) + (offset - total.offset);
    return Partial(
        pivot,
        total.offset + delta * share,
        total.m2 + (m2 + delta * delta * (count * share)),
        total.count,
    );
}

// Adds one vector.
fn with_one(total: Partial, count: f32, value: vec4<f32>) -> Partial {
    let pivot = select(total.pivot, value, count == 0.0);
    let share = 1.0 / (count + 1.0);
    let delta = (value - pivot) - total.offset;
    return Partial(
        pivot,
        total.offset + delta * share,
        total.m2 + delta * delta * (count * share),
        total.count,
    );
}

fn accumulate_moments(range: LaneRange, totals: ptr<function, array<Partial, COLUMNS>>) {
    let team_rows = params.geometry.team_rows;
    for (var j = 0u; j < COLUMNS; j++) {
        (*totals)[j] = identity();
    }
    // Values seen in each component, if nothing is masked.
    var count = 0.0;
    var cursor = cursor_at(range);
    var item = range.item;
    if MASKED && COLUMNS == 1u {
        for (; item + 3u * team_rows < range.end; item += 4u * team_rows) {
            let p0 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p1 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p2 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p3 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let values = array(
                x_at(p0.vector),
                x_at(p1.vector),
                x_at(p2.vector),
                x_at(p3.vector),
            );
            let inside = array(p0.inside, p1.inside, p2.inside, p3.inside);
            (*totals)[0] = combine((*totals)[0], moments_of(values, inside));
        }
    }
    // Columns are neighbours in memory, and are best read row by row. Blocks of more than 4 do not fit registers.
    if !MASKED && COLUMNS <= 4u {
        for (; item + 3u * team_rows < range.end; item += 4u * team_rows) {
            var rows: array<array<vec4<f32>, COLUMNS>, 4>;
            for (var r = 0u; r < 4u; r++) {
                for (var j = 0u; j < COLUMNS; j++) {
                    rows[r][j] = x_at(place(range, cursor, j).vector);
                }
                cursor = cursor_next(cursor);
            }
            for (var j = 0u; j < COLUMNS; j++) {
                (*totals)[j] = with_four(
                    (*totals)[j],
                    count,
                    rows[0][j],
                    rows[1][j],
                    rows[2][j],
                    rows[3][j],
                );
            }
            count += 4.0;
        }
    }
    for (; item < range.end; item += team_rows) {
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(range, cursor, j);
            let value = x_at(at.vector);
            if MASKED {
                let inside = select(vec4(0.0), value, at.inside);
                let one = Partial(inside, vec4(0.0), vec4(0.0), vec4<f32>(at.inside));
                (*totals)[j] = combine((*totals)[j], one);
            } else {
                (*totals)[j] = with_one((*totals)[j], count, value);
            }
        }
        count += 1.0;
        cursor = cursor_next(cursor);
    }
    if !MASKED {
        for (var j = 0u; j < COLUMNS; j++) {
            (*totals)[j].count = vec4(count);
        }
    }
}
