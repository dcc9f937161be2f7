// y = x_hat * weight + bias along a lane's walk. The kernel binds `x`, `affine` and `y`.

#import affine
#import standardize
#import layout
#import element

struct Coefficients {
    mean: vec4<f32>,
    scale: vec4<f32>,
    bias: vec4<f32>,
}

fn coefficients(channels: vec4<u32>, statistics: Statistics) -> Coefficients {
    let scale = statistics.inv_std * weights(channels);
    // What rounding left out of the mean moves all values alike.
    return Coefficients(statistics.mean, scale, biases(channels) - statistics.residual * scale);
}

fn normalized(x: vec4<f32>, c: Coefficients) -> StorageVector {
    return encode((x - c.mean) * c.scale + c.bias);
}

fn choose(own: Coefficients, beyond: Coefficients, which: vec4<bool>) -> Coefficients {
    return Coefficients(
        select(own.mean, beyond.mean, which),
        select(own.scale, beyond.scale, which),
        select(own.bias, beyond.bias, which),
    );
}

// `beyond` serves the components that belong to the channel after the lane's own.
fn apply(walk: Walk, own: Coefficients, beyond: Coefficients) {
    let step = params.geometry.step;
    var item = walk.item;
    var cursor = cursor_at(walk);
    if !MASKED {
        for (; item + 3u * step < walk.end; item += 4u * step) {
            let v0 = cursor.vector;
            cursor = cursor_next(cursor);
            let v1 = cursor.vector;
            cursor = cursor_next(cursor);
            let v2 = cursor.vector;
            cursor = cursor_next(cursor);
            let v3 = cursor.vector;
            cursor = cursor_next(cursor);
            let x0 = decode(x[v0]);
            let x1 = decode(x[v1]);
            let x2 = decode(x[v2]);
            let x3 = decode(x[v3]);
            y[v0] = normalized(x0, own);
            y[v1] = normalized(x1, own);
            y[v2] = normalized(x2, own);
            y[v3] = normalized(x3, own);
        }
    }
    for (; item < walk.end; item += step) {
        let at = place(walk, cursor, true);
        cursor = cursor_next(cursor);
        if at.owned {
            y[at.vector] = normalized(decode(x[at.vector]), choose(own, beyond, at.beyond));
        }
    }
}
