// Activations stored as f16, four to a vector of 8 bytes, converted by the type f16 of WGSL.
//
// WGSL leaves the rounding, what is too large, and subnormals to the driver. So a plan takes this file only on a device that
// was asked (`src/norm/f16.rs`), and rounds to nearest, ties to even.

#enable f16

alias StorageVector = vec4<f16>;

fn decode(stored: StorageVector) -> vec4<f32> {
    return vec4<f32>(stored);
}

fn encode(values: vec4<f32>) -> StorageVector {
    return vec4<f16>(values);
}
