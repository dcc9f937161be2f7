// The mean of moments, as one f32 and what rounding left out of it.

#import params
#import monoid

struct Mean {
    rounded: vec4<f32>,
    residual: vec4<f32>,
}

fn mean_of(total: Partial) -> Mean {
    // A compiler that sees through this sum takes (pivot + offset) - pivot for offset, and the residual
    // for zero. Drivers do.
    let sum = bitcast<vec4<u32>>(total.pivot + total.offset) ^ vec4(params.zero);
    let rounded = bitcast<vec4<f32>>(sum);
    return Mean(rounded, total.offset - (rounded - total.pivot));
}
