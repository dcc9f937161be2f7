// A number as the sum of two f32, of which the first is nearly all of it. The two of them keep twice the digits of one.

struct Settled {
    high: vec4<f32>,
    low: vec4<f32>,
}

// The same sum, with `high` at most one unit of its last place away from it.
//
// A compiler that sees through the sum replaces high - (high + low) by -low, and `low` becomes zero. Drivers do. Without
// its last bit the sum is no sum to them. Nothing else is lost by that: what the bit was worth goes to `low`.
fn settled(high: vec4<f32>, low: vec4<f32>) -> Settled {
    let sum = bitcast<vec4<f32>>(bitcast<vec4<u32>>(high + low) & vec4(0xfffffffeu));
    return Settled(sum, (high - sum) + low);
}

// Which values are infinite. By bits, because a WGSL compiler may assume that none is.
fn infinite(values: vec4<f32>) -> vec4<bool> {
    return (bitcast<vec4<u32>>(values) & vec4(0x7fffffffu)) == vec4(0x7f800000u);
}

// squares - correction, which is not negative. Squares beyond f32 stay infinite, whatever became of the correction.
fn corrected(squares: vec4<f32>, correction: vec4<f32>) -> vec4<f32> {
    return select(squares - correction, squares, infinite(squares));
}
