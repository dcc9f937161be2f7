// Activations stored as f32, four to a vector of 16 bytes.

alias StorageVector = vec4<f32>;

fn decode(stored: StorageVector) -> vec4<f32> {
    return stored;
}

fn encode(values: vec4<f32>) -> StorageVector {
    return values;
}
