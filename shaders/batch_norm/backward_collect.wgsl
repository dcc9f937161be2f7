// The sums of dy and x_hat * dy along a lane's walk. The kernel binds `x` and `dy`.

#import standardize
#import layout
#import element
#import monoid

fn collect_backward(walk: Walk, statistics: Statistics) -> Partial {
    let step = params.geometry.step;
    let zero = vec4(0.0);
    var total = identity();
    var cursor = cursor_at(walk);
    for (var item = walk.item; item < walk.end; item += 2u * step) {
        let p0 = place(walk, cursor, true);
        cursor = cursor_next(cursor);
        let p1 = place(walk, cursor, item + step < walk.end);
        cursor = cursor_next(cursor);
        let x0 = decode(x[p0.vector]);
        let x1 = decode(x[p1.vector]);
        let dy0 = select(zero, decode(dy[p0.vector]), p0.inside);
        let dy1 = select(zero, decode(dy[p1.vector]), p1.inside);
        let x_hat0 = select(zero, standardize(x0, statistics), p0.inside);
        let x_hat1 = select(zero, standardize(x1, statistics), p1.inside);
        total = combine(total, Partial(dy0 + dy1, x_hat0 * dy0 + x_hat1 * dy1));
    }
    return total;
}
