// Activations stored as f16, four to a vector of 8 bytes, two to a word, converted by the functions of WGSL that pack words.
//
// WGSL leaves the rounding, what is too large, and subnormals to the driver. So a plan takes this file only on a device that
// was asked (`src/norm/f16.rs`), and rounds to nearest, ties to even.

alias StorageVector = vec2<u32>;

fn decode(stored: StorageVector) -> vec4<f32> {
    return vec4(unpack2x16float(stored.x), unpack2x16float(stored.y));
}

fn encode(values: vec4<f32>) -> StorageVector {
    return vec2(pack2x16float(values.xy), pack2x16float(values.zw));
}
