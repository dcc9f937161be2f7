// dx along a lane's walk. The kernel binds `x`, `dy`, `affine` and `dx`.
//
// With batch statistics, mean and variance depend on x too, which couples the gradients of a channel:
//     dx = (dy - mean(dy) - x_hat * mean(x_hat * dy)) * inv_std * weight
// With frozen statistics the two means drop out, and x with them.

#import affine
#import standardize
#import layout
#import element

struct BackwardCoefficients {
    statistics: Statistics,
    mean_dy: vec4<f32>,
    mean_x_hat_dy: vec4<f32>,
    scale: vec4<f32>,
}

fn backward_coefficients(
    channels: vec4<u32>,
    statistics: Statistics,
    mean_dy: vec4<f32>,
    mean_x_hat_dy: vec4<f32>,
) -> BackwardCoefficients {
    return BackwardCoefficients(
        statistics,
        mean_dy,
        mean_x_hat_dy,
        statistics.inv_std * weights(channels),
    );
}

fn choose(own: BackwardCoefficients, beyond: BackwardCoefficients, which: vec4<bool>) -> BackwardCoefficients {
    return BackwardCoefficients(
        Statistics(
            select(own.statistics.mean, beyond.statistics.mean, which),
            select(own.statistics.residual, beyond.statistics.residual, which),
            select(own.statistics.inv_std, beyond.statistics.inv_std, which),
        ),
        select(own.mean_dy, beyond.mean_dy, which),
        select(own.mean_x_hat_dy, beyond.mean_x_hat_dy, which),
        select(own.scale, beyond.scale, which),
    );
}

// `beyond` serves the components that belong to the channel after the lane's own.
fn apply_backward(walk: Walk, own: BackwardCoefficients, beyond: BackwardCoefficients) {
    var cursor = cursor_at(walk);
    for (var item = walk.item; item < walk.end; item += params.geometry.step) {
        let at = place(walk, cursor, true);
        cursor = cursor_next(cursor);
        if at.owned {
            let c = choose(own, beyond, at.beyond);
            var gradient = decode(dy[at.vector]);
            if !FROZEN {
                let x_hat = standardize(decode(x[at.vector]), c.statistics);
                gradient = (gradient - c.mean_dy) - x_hat * c.mean_x_hat_dy;
            }
            dx[at.vector] = encode(gradient * c.scale);
        }
    }
}
