// The factors and terms that turn x and the gradient g of the normalized values into dx:
//     dx = (g - mean(g) - x_hat * mean(x_hat * g)) * inv_std * weight
// With frozen statistics mean and variance are constants, and the two means drop out.

#import coefficients
#import standardize
#import stored_statistics

// Means over the values that share statistics.
struct Means {
    g: vec4<f32>,
    x_hat_g: vec4<f32>,
}

struct BackwardCoefficients {
    forward: Coefficients,
    statistics: Statistics,
    means: Means,
}

// With statistics that an earlier pass left, and without means.
fn stored_backward_coefficients(
    statistics_index: vec4<u32>,
    parameter_index: vec4<u32>,
) -> BackwardCoefficients {
    let statistics = stored_statistics(statistics_index);
    let forward = coefficients(parameter_index, statistics);
    return BackwardCoefficients(forward, statistics, Means(vec4(0.0), vec4(0.0)));
}

fn with_means(c: BackwardCoefficients, means: Means) -> BackwardCoefficients {
    return BackwardCoefficients(c.forward, c.statistics, means);
}

// Takes the components of `next` that `is_next` names, and the others of `own`.
fn select_backward_coefficients(
    own: BackwardCoefficients,
    next: BackwardCoefficients,
    is_next: vec4<bool>,
) -> BackwardCoefficients {
    return BackwardCoefficients(
        select_coefficients(own.forward, next.forward, is_next),
        Statistics(
            select(own.statistics.mean, next.statistics.mean, is_next),
            select(own.statistics.mean_low, next.statistics.mean_low, is_next),
            select(own.statistics.inv_std, next.statistics.inv_std, is_next),
        ),
        Means(
            select(own.means.g, next.means.g, is_next),
            select(own.means.x_hat_g, next.means.x_hat_g, is_next),
        ),
    );
}

fn input_gradient(x: vec4<f32>, gradient: vec4<f32>, c: BackwardCoefficients) -> vec4<f32> {
    if FROZEN {
        return gradient * c.forward.scale;
    }
    let x_hat = standardize(x, c.statistics);
    return ((gradient - c.means.g) - x_hat * c.means.x_hat_g) * c.forward.scale;
}
