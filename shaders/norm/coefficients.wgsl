// The factors and terms that turn x into y before the epilogue: y = (x - mean) * scale + bias.

#import affine
#import layout
#import standardize

struct Coefficients {
    mean: vec4<f32>,
    scale: vec4<f32>,
    bias: vec4<f32>,
}

// The coefficients of a lane's whole range, without what varies along it.
fn coefficients(parameter_index: vec4<u32>, statistics: Statistics) -> Coefficients {
    if PARAMETERS_VARY {
        return of_statistics(statistics, vec4(1.0), vec4(0.0));
    }
    let weight = weights(parameter_index);
    let bias = biases(parameter_index);
    if STATISTICS_VARY {
        return Coefficients(vec4(0.0), weight, bias);
    }
    return of_statistics(statistics, weight, bias);
}

fn of_statistics(statistics: Statistics, weight: vec4<f32>, bias: vec4<f32>) -> Coefficients {
    let scale = statistics.inv_std * weight;
    // The rest of the mean moves all values alike.
    return Coefficients(statistics.mean, scale, bias - statistics.mean_low * scale);
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
        return Coefficients(own.mean, own.scale * p.weight, p.bias + own.bias * p.weight);
    }
    return own;
}

fn normalized(x: vec4<f32>, c: Coefficients) -> vec4<f32> {
    return (x - c.mean) * c.scale + c.bias;
}

// Takes the components of `next` that `is_next` names, and the others of `own`.
fn select_coefficients(own: Coefficients, next: Coefficients, is_next: vec4<bool>) -> Coefficients {
    return Coefficients(
        select(own.mean, next.mean, is_next),
        select(own.scale, next.scale, is_next),
        select(own.bias, next.bias, is_next),
    );
}
