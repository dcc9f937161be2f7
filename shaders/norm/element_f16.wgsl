// Activations stored as f16, four to a vector of 8 bytes, two to a word.
//
// Integers, but for a rounding that WGSL defines. It leaves pack2x16float's rounding to the driver and its result
// undefined for the whole word where one value is out of range, and lets unpack2x16float flush subnormals.

alias StorageVector = vec2<u32>;

fn decode(stored: StorageVector) -> vec4<f32> {
    let halves = vec4(stored.x & 0xffffu, stored.x >> 16u, stored.y & 0xffffu, stored.y >> 16u);
    let sign = (halves & vec4(0x8000u)) << vec4(16u);
    let magnitude = (halves & vec4(0x7fffu)) << vec4(13u);
    // The exponent's bias is 15 there, 127 here; infinities and NaNs have the largest exponent in both.
    let special = magnitude >= vec4(0x0f800000u);
    let normal = magnitude + select(vec4(112u << 23u), vec4(224u << 23u), special);
    // A subnormal is its mantissa times 2^-24, and a small integer is exact in f32.
    let subnormal = bitcast<vec4<u32>>(vec4<f32>(halves & vec4(0x3ffu)) * exp2(-24.0));
    return bitcast<vec4<f32>>(sign | select(normal, subnormal, magnitude < vec4(0x00800000u)));
}

// Rounds to nearest, ties to even; what is too large becomes infinity.
fn encode(values: vec4<f32>) -> StorageVector {
    let bits = bitcast<vec4<u32>>(values);
    let magnitude = bits & vec4(0x7fffffffu);
    // Rounding may carry into the exponent, up to infinity, as it should.
    let normal = (magnitude - vec4(112u << 23u) + vec4(0xfffu) + ((magnitude >> vec4(13u)) & vec4(1u))) >> vec4(13u);
    // Below 2^-14 it is a multiple of 2^-24, the product is exact, and WGSL's round is to even. In a sum with 2^23,
    // which is exact too, the integer stands in the last bits.
    let multiple = round(abs(values) * exp2(24.0)) + exp2(23.0);
    let subnormal = bitcast<vec4<u32>>(multiple) & vec4(0x7ffu);
    var result = select(normal, subnormal, magnitude < vec4(0x38800000u));
    result = select(result, vec4(0x7c00u), magnitude >= vec4(0x47800000u));
    result = select(result, vec4(0x7e00u), magnitude > vec4(0x7f800000u));
    let halves = result | ((bits >> vec4(16u)) & vec4(0x8000u));
    return vec2(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u));
}
