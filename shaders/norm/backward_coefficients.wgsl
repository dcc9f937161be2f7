// The factors and terms that turn x and the gradient g of the normalized values into dx. Values that share statistics and
// weight:
//     dx = (g - mean(g) - x_hat * mean(x_hat * g)) * inv_std * weight
// Values that share statistics only, with h = g * weight:
//     dx = (h - mean(h) - x_hat * mean(x_hat * h)) * inv_std
// With frozen statistics mean and variance are constants, and the two means drop out.

#import coefficients
#import layout
#import standardize
#import stored_statistics

// Whether gradients are multiplied by the weight before they are summed, and before means are taken off.
override WEIGHTED: bool = false;

// Means over the values that share statistics.
struct Means {
    g: vec4<f32>,
    x_hat_g: vec4<f32>,
}

struct BackwardCoefficients {
    forward: Coefficients,
    statistics: Statistics,
    means: Means,
    weight: vec4<f32>,
}

// With statistics that an earlier pass left, and without means.
fn stored_backward_coefficients(
    statistics_index: vec4<u32>,
    parameter_index: vec4<u32>,
) -> BackwardCoefficients {
    let none = Means(vec4(0.0), vec4(0.0));
    if STATISTICS_VARY {
        let nothing = Statistics(vec4(0.0), vec4(0.0), vec4(0.0));
        return BackwardCoefficients(coefficients(parameter_index, nothing), nothing, none, vec4(0.0));
    }
    let statistics = stored_statistics(statistics_index);
    let forward = coefficients(parameter_index, statistics);
    if WEIGHTED && !PARAMETERS_VARY {
        return BackwardCoefficients(forward, statistics, none, weights(parameter_index));
    }
    return BackwardCoefficients(forward, statistics, none, vec4(0.0));
}

// What varies along the range: the parameters of one vector, or its statistics.
struct Varying {
    parameters: Parameters,
    statistics: Statistics,
}

fn varying_at(at: Place) -> Varying {
    var statistics = Statistics(vec4(0.0), vec4(0.0), vec4(0.0));
    if STATISTICS_VARY {
        statistics = stored_statistics(at.varying_index);
    }
    return Varying(parameters_at(at), statistics);
}

// Whether the columns of a lane differ in it, too, as in rows that are no whole vectors.
fn columns_vary() -> bool {
    return STATISTICS_VARY && !STATISTICS_SHARE;
}

fn with_varying(own: BackwardCoefficients, v: Varying) -> BackwardCoefficients {
    if PARAMETERS_VARY {
        let forward = with_parameters(own.forward, v.parameters);
        return BackwardCoefficients(forward, own.statistics, own.means, v.parameters.weight);
    }
    if STATISTICS_VARY {
        let forward = of_statistics(v.statistics, own.forward.scale, own.forward.bias);
        return BackwardCoefficients(forward, v.statistics, own.means, own.weight);
    }
    return own;
}

fn with_means(c: BackwardCoefficients, means: Means) -> BackwardCoefficients {
    return BackwardCoefficients(c.forward, c.statistics, means, c.weight);
}

// The gradient that sums and means are of.
fn weighted(gradient: vec4<f32>, c: BackwardCoefficients) -> vec4<f32> {
    if WEIGHTED {
        return gradient * c.weight;
    }
    return gradient;
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
        select(own.weight, next.weight, is_next),
    );
}

fn input_gradient(x: vec4<f32>, gradient: vec4<f32>, c: BackwardCoefficients) -> vec4<f32> {
    if FROZEN {
        return gradient * c.forward.scale;
    }
    let x_hat = standardize(x, c.statistics);
    let g = weighted(gradient, c);
    // A norm without a mean has none of the gradients either.
    let centered = g - select(vec4(0.0), c.means.g, vec4(CENTERED));
    let moved = centered - x_hat * c.means.x_hat_g;
    if WEIGHTED {
        return moved * c.statistics.inv_std;
    }
    return moved * c.forward.scale;
}
