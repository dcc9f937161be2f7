// Activations stored as bf16, the upper half of an f32: four to a vector of 8 bytes, two to a word.

alias StorageVector = vec2<u32>;

fn decode(stored: StorageVector) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4(
        stored.x << 16u,
        stored.x & 0xffff0000u,
        stored.y << 16u,
        stored.y & 0xffff0000u,
    ));
}

// Rounds to nearest, ties to even; what is too large becomes infinity.
fn encode(values: vec4<f32>) -> StorageVector {
    let bits = bitcast<vec4<u32>>(values);
    let rounded = (bits + vec4(0x7fffu) + ((bits >> vec4(16u)) & vec4(1u))) >> vec4(16u);
    // Rounding would carry a NaN into infinity.
    let nan = (bits & vec4(0x7fffffffu)) > vec4(0x7f800000u);
    let halves = select(rounded, (bits >> vec4(16u)) | vec4(0x40u), nan);
    return vec2(halves.x | (halves.y << 16u), halves.z | (halves.w << 16u));
}
