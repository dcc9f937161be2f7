// What turns a channel's x into its normalized values. The kernel binds `affine`.

#import affine
#import standardize
#import layout

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

fn normalized(x: vec4<f32>, c: Coefficients) -> vec4<f32> {
    return (x - c.mean) * c.scale + c.bias;
}

// `beyond` serves the components that belong to the channel after the lane's own.
fn choose(own: Coefficients, beyond: Coefficients, which: vec4<bool>) -> Coefficients {
    return Coefficients(
        select(own.mean, beyond.mean, which),
        select(own.scale, beyond.scale, which),
        select(own.bias, beyond.bias, which),
    );
}
