// The factors and terms that turn x into y before the epilogue: y = (x - mean) * scale + bias.

#import affine
#import standardize

struct Coefficients {
    mean: vec4<f32>,
    scale: vec4<f32>,
    bias: vec4<f32>,
}

fn coefficients(parameter_index: vec4<u32>, statistics: Statistics) -> Coefficients {
    let scale = statistics.inv_std * weights(parameter_index);
    // The rest of the mean moves all values alike.
    return Coefficients(statistics.mean, scale, biases(parameter_index) - statistics.mean_low * scale);
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
