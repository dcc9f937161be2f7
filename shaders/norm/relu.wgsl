// ReLU as torch defines it: NaN passes. By bits, because a WGSL compiler may assume that there is no NaN.

// Whether a value is positive or NaN, so that ReLU leaves it and its gradient alone.
fn passes(values: vec4<f32>) -> vec4<bool> {
    let bits = bitcast<vec4<u32>>(values);
    let positive = (bits - vec4(1u)) < vec4(0x7fffffffu);
    return positive | ((bits & vec4(0x7fffffffu)) > vec4(0x7f800000u));
}

fn relu(values: vec4<f32>) -> vec4<f32> {
    return select(vec4(0.0), values, passes(values));
}
