// The mean of moments as the sum of two f32: the nearest one, and what rounding left out.

#import params
#import monoid

struct Mean {
    nearest: vec4<f32>,
    low: vec4<f32>,
}

fn mean_of(total: Partial) -> Mean {
    // A compiler that sees through this sum replaces (pivot + offset) - pivot by offset, and `low` becomes zero. Drivers
    // do. The exclusive or with a zero from the uniform hides the sum.
    let sum = bitcast<vec4<u32>>(total.pivot + total.offset) ^ vec4(params.reduction.zero);
    let nearest = bitcast<vec4<f32>>(sum);
    return Mean(nearest, total.offset - (nearest - total.pivot));
}
