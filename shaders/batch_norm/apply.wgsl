// y = x_hat * weight + bias along a lane's walk. The kernel binds `x`, `affine` and `y`.

#import affine
#import standardize
#import layout
#import element

struct Coefficients {
    mean: vec4<f32>,
    residual: vec4<f32>,
    scale: vec4<f32>,
    bias: vec4<f32>,
}

fn coefficients(channels: vec4<u32>, statistics: Statistics) -> Coefficients {
    return Coefficients(
        statistics.mean,
        statistics.residual,
        statistics.inv_std * weights(channels),
        biases(channels),
    );
}

// `beyond` serves the components that belong to the channel after the lane's own.
fn apply(walk: Walk, own: Coefficients, beyond: Coefficients) {
    var cursor = cursor_at(walk);
    for (var item = walk.item; item < walk.end; item += params.geometry.step) {
        let at = place(walk, cursor, true);
        cursor = cursor_next(cursor);
        if at.owned {
            let mean = select(own.mean, beyond.mean, at.beyond);
            let residual = select(own.residual, beyond.residual, at.beyond);
            let scale = select(own.scale, beyond.scale, at.beyond);
            let bias = select(own.bias, beyond.bias, at.beyond);
            let values = decode(x[at.vector]);
            y[at.vector] = encode(((values - mean) - residual) * scale + bias);
        }
    }
}
