// The moments of the values on a lane's walk. The kernel binds `x`.

#import params
#import layout
#import element
#import monoid

// The moments of four vectors, by two passes over registers.
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

fn collect(walk: Walk) -> Partial {
    let step = params.geometry.step;
    var total = identity();
    var cursor = cursor_at(walk);
    var item = walk.item;
    if !MASKED {
        // As long as there are four vectors, all components count alike: what the loop below does, without
        // the masks.
        var count = 0.0;
        for (; item + 3u * step < walk.end; item += 4u * step) {
            let x0 = decode(x[cursor.vector]);
            cursor = cursor_next(cursor);
            let x1 = decode(x[cursor.vector]);
            cursor = cursor_next(cursor);
            let x2 = decode(x[cursor.vector]);
            cursor = cursor_next(cursor);
            let x3 = decode(x[cursor.vector]);
            cursor = cursor_next(cursor);
            total.pivot = select(total.pivot, x0, count == 0.0);
            let d1 = x1 - x0;
            let d2 = x2 - x0;
            let d3 = x3 - x0;
            let offset = 0.25 * (d1 + (d2 + d3));
            let e1 = d1 - offset;
            let e2 = d2 - offset;
            let e3 = d3 - offset;
            let m2 = (offset * offset + e1 * e1) + (e2 * e2 + e3 * e3);
            let share = 4.0 / (count + 4.0);
            let delta = (x0 - total.pivot) + (offset - total.offset);
            total.offset += delta * share;
            total.m2 += m2 + delta * delta * (count * share);
            count += 4.0;
        }
        total.count = vec4(count);
    }
    for (; item < walk.end; item += 4u * step) {
        let p0 = place(walk, cursor, true);
        cursor = cursor_next(cursor);
        let p1 = place(walk, cursor, item + step < walk.end);
        cursor = cursor_next(cursor);
        let p2 = place(walk, cursor, item + 2u * step < walk.end);
        cursor = cursor_next(cursor);
        let p3 = place(walk, cursor, item + 3u * step < walk.end);
        cursor = cursor_next(cursor);
        total = combine(total, moments_of(
            array(decode(x[p0.vector]), decode(x[p1.vector]), decode(x[p2.vector]), decode(x[p3.vector])),
            array(p0.inside, p1.inside, p2.inside, p3.inside),
        ));
    }
    return total;
}
