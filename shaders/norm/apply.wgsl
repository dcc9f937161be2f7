// Writes y = epilogue(x_hat * weight + bias) for a lane's range.

#import coefficients
#import layout
#import x
#import y
#import epilogue

fn apply_at(at: Place, x: vec4<f32>, c: Coefficients, p: Parameters) {
    store_y(at.vector, finish(at.vector, normalized(x, with_parameters(c, p))));
}

// `next` serves the components with the next statistics in memory.
fn apply(range: LaneRange, own: ptr<function, array<Coefficients, COLUMNS>>, next: Coefficients) {
    let team_rows = params.geometry.team_rows;
    var item = range.item;
    var cursor = cursor_at(range);
    // Several columns are neighbours in memory, and are best read row by row.
    if !MASKED && COLUMNS == 1u {
        for (; item + 3u * team_rows < range.end; item += 4u * team_rows) {
            let p0 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p1 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p2 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let p3 = place(range, cursor, 0u);
            cursor = cursor_next(cursor);
            let x0 = x_at(p0.vector);
            let x1 = x_at(p1.vector);
            let x2 = x_at(p2.vector);
            let x3 = x_at(p3.vector);
            apply_at(p0, x0, (*own)[0], parameters_at(p0));
            apply_at(p1, x1, (*own)[0], parameters_at(p1));
            apply_at(p2, x2, (*own)[0], parameters_at(p2));
            apply_at(p3, x3, (*own)[0], parameters_at(p3));
        }
    }
    for (; item < range.end; item += team_rows) {
        // Where parameters vary, all columns of a lane share them.
        let parameters = parameters_at(place(range, cursor, 0u));
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(range, cursor, j);
            if at.owned {
                let c = select_coefficients((*own)[j], next, at.next);
                apply_at(at, x_at(at.vector), c, parameters);
            }
        }
        cursor = cursor_next(cursor);
    }
}
