// The factors and terms that turn x into y before the epilogue: y = (x - mean) * scale + bias.

#import affine
#import element
#import layout
#import standardize

// Whether normalized values are rounded as they are stored before the weight multiplies them.
override ROUND_BEFORE_WEIGHT: bool = false;

struct Coefficients {
    mean: vec4<f32>,
    // inv_std with the weight, unless values are rounded between the two.
    scale: vec4<f32>,
    bias: vec4<f32>,
    // The weight if the scale is without it, else 1.
    weight: vec4<f32>,
}

// A normalized value as the weight multiplies it.
fn before_weight(x_hat: vec4<f32>) -> vec4<f32> {
    if ROUND_BEFORE_WEIGHT {
        return decode(encode(x_hat));
    }
    return x_hat;
}

// The coefficients of a lane's whole range, without what varies along it.
fn coefficients(parameter_index: vec4<u32>, statistics: Statistics) -> Coefficients {
    if PARAMETERS_VARY {
        return of_statistics(statistics, vec4(1.0), vec4(0.0));
    }
    let weight = weights(parameter_index);
    let bias = biases(parameter_index);
    if STATISTICS_VARY {
        return Coefficients(vec4(0.0), weight, bias, vec4(1.0));
    }
    return of_statistics(statistics, weight, bias);
}

fn of_statistics(statistics: Statistics, weight: vec4<f32>, bias: vec4<f32>) -> Coefficients {
    let scale = statistics.inv_std * weight;
    // The rest of the mean moves all values alike.
    let moved = bias - statistics.mean_low * scale;
    if ROUND_BEFORE_WEIGHT {
        return Coefficients(statistics.mean, statistics.inv_std, moved, weight);
    }
    return Coefficients(statistics.mean, scale, moved, vec4(1.0));
}

// The parameters of one vector, if they vary along the range.
struct Parameters {
    weight: vec4<f32>,
    bias: vec4<f32>,
}

fn parameters_at(at: Place) -> Parameters {
    if PARAMETERS_VARY {
        return Parameters(weights(at.varying_index), biases(at.varying_index));
    }
    return Parameters(vec4(1.0), vec4(0.0));
}

fn with_parameters(own: Coefficients, p: Parameters) -> Coefficients {
    if PARAMETERS_VARY {
        let bias = p.bias + own.bias * p.weight;
        if ROUND_BEFORE_WEIGHT {
            return Coefficients(own.mean, own.scale, bias, p.weight);
        }
        return Coefficients(own.mean, own.scale * p.weight, bias, vec4(1.0));
    }
    return own;
}

fn normalized(x: vec4<f32>, c: Coefficients) -> vec4<f32> {
    if ROUND_BEFORE_WEIGHT {
        return before_weight((x - c.mean) * c.scale) * c.weight + c.bias;
    }
    return (x - c.mean) * c.scale + c.bias;
}

// Takes the components of `next` that `is_next` names, and the others of `own`.
fn select_coefficients(own: Coefficients, next: Coefficients, is_next: vec4<bool>) -> Coefficients {
    return Coefficients(
        select(own.mean, next.mean, is_next),
        select(own.scale, next.scale, is_next),
        select(own.bias, next.bias, is_next),
        select(own.weight, next.weight, is_next),
    );
}
