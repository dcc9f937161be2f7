// What turns a channel's x and dy into dx. The kernel binds `affine`.

#import coefficients
#import standardize

struct BackwardCoefficients {
    forward: Coefficients,
    statistics: Statistics,
    mean_g: vec4<f32>,
    mean_x_hat_g: vec4<f32>,
}

fn backward_coefficients(channels: vec4<u32>, statistics: Statistics) -> BackwardCoefficients {
    return BackwardCoefficients(coefficients(channels, statistics), statistics, vec4(0.0), vec4(0.0));
}

// The same with the means of a batch, by which mean and variance depend on x.
fn coupled(c: BackwardCoefficients, mean_g: vec4<f32>, mean_x_hat_g: vec4<f32>) -> BackwardCoefficients {
    return BackwardCoefficients(c.forward, c.statistics, mean_g, mean_x_hat_g);
}

fn choose_backward(
    own: BackwardCoefficients,
    beyond: BackwardCoefficients,
    which: vec4<bool>,
) -> BackwardCoefficients {
    return BackwardCoefficients(
        choose(own.forward, beyond.forward, which),
        Statistics(
            select(own.statistics.mean, beyond.statistics.mean, which),
            select(own.statistics.residual, beyond.statistics.residual, which),
            select(own.statistics.inv_std, beyond.statistics.inv_std, which),
        ),
        select(own.mean_g, beyond.mean_g, which),
        select(own.mean_x_hat_g, beyond.mean_x_hat_g, which),
    );
}

// The gradient with respect to x, given the incoming one:
//     dx = (g - mean(g) - x_hat * mean(x_hat * g)) * inv_std * weight
// With frozen statistics the two means drop out, and x with them.
fn outgoing(x: vec4<f32>, gradient: vec4<f32>, c: BackwardCoefficients) -> vec4<f32> {
    if FROZEN {
        return gradient * c.forward.scale;
    }
    let x_hat = standardize(x, c.statistics);
    return ((gradient - c.mean_g) - x_hat * c.mean_x_hat_g) * c.forward.scale;
}
