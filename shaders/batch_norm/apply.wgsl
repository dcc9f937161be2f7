// y = epilogue(x_hat * weight + bias) along a lane's walk. The kernel binds `affine`.

#import coefficients
#import values
#import epilogue

fn apply_at(vector: u32, x: vec4<f32>, c: Coefficients) {
    store_y(vector, finish(vector, normalized(x, c)));
}

// `beyond` serves the components that belong to the channel after the lane's own.
fn apply(walk: Walk, own: ptr<function, array<Coefficients, COLUMNS>>, beyond: Coefficients) {
    let step = params.geometry.step;
    var item = walk.item;
    var cursor = cursor_at(walk);
    // Several columns are neighbours in memory, and are best read row by row.
    if !MASKED && COLUMNS == 1u {
        for (; item + 3u * step < walk.end; item += 4u * step) {
            let v0 = place(walk, cursor, 0u).vector;
            cursor = cursor_next(cursor);
            let v1 = place(walk, cursor, 0u).vector;
            cursor = cursor_next(cursor);
            let v2 = place(walk, cursor, 0u).vector;
            cursor = cursor_next(cursor);
            let v3 = place(walk, cursor, 0u).vector;
            cursor = cursor_next(cursor);
            let x0 = decode(x[v0]);
            let x1 = decode(x[v1]);
            let x2 = decode(x[v2]);
            let x3 = decode(x[v3]);
            apply_at(v0, x0, (*own)[0]);
            apply_at(v1, x1, (*own)[0]);
            apply_at(v2, x2, (*own)[0]);
            apply_at(v3, x3, (*own)[0]);
        }
    }
    for (; item < walk.end; item += step) {
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(walk, cursor, j);
            if at.owned {
                apply_at(at.vector, decode(x[at.vector]), choose((*own)[j], beyond, at.beyond));
            }
        }
        cursor = cursor_next(cursor);
    }
}
