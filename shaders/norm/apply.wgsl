// Writes y = epilogue(x_hat * weight + bias) for a lane's range.

#import coefficients
#import layout
#import x
#import element
#import y
#import epilogue

// `next` serves the components with the next statistics in memory.
fn apply_at(at: Place, x: StorageVector, own: Coefficients, next: Coefficients, p: Parameters) {
    let c = with_parameters(select_coefficients(own, next, at.next), p);
    store_y(at.vector, finish(at.vector, normalized(decode(x), c)));
}

fn apply(range: LaneRange, own: ptr<function, array<Coefficients, COLUMNS>>, next: Coefficients) {
    let team_rows = params.geometry.team_rows;
    var item = range.item;
    var cursor = cursor_at(range);
    // Several columns are taken side by side: they are neighbours in memory, or share parameters.
    if COLUMNS == 1u {
        for (; item + 3u * team_rows < range.end; item += 4u * team_rows) {
            var p0 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            var p1 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            var p2 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            var p3 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let some = owned_or(p0, owned_or(p1, owned_or(p2, p3)));
            if some.owned {
                p0 = owned_or(p0, some);
                p1 = owned_or(p1, some);
                p2 = owned_or(p2, some);
                p3 = owned_or(p3, some);
                let x0 = load_x(p0.vector);
                let x1 = load_x(p1.vector);
                let x2 = load_x(p2.vector);
                let x3 = load_x(p3.vector);
                apply_at(p0, x0, (*own)[0], next, parameters_at(p0));
                apply_at(p1, x1, (*own)[0], next, parameters_at(p1));
                apply_at(p2, x2, (*own)[0], next, parameters_at(p2));
                apply_at(p3, x3, (*own)[0], next, parameters_at(p3));
            }
        }
    }
    for (; item < range.end; item += team_rows) {
        // Where parameters vary, all columns of a lane share them.
        let parameters = parameters_at(place(range, cursor, 0u));
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(range, cursor, j);
            if at.owned {
                apply_at(at, load_x(at.vector), (*own)[j], next, parameters);
            }
        }
        cursor = cursor_next(cursor);
    }
}
