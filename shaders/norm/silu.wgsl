// The sigmoid function, for SiLU.

fn sigmoid(values: vec4<f32>) -> vec4<f32> {
    // Beyond 80 an exponential may leave f32, where WGSL promises nothing. The quotient is 1e-35 there.
    return 1.0 / (1.0 + exp(min(-values, vec4(80.0))));
}
