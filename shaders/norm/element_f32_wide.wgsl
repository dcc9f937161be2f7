// Activations stored as f32, four to a vector of 16 bytes, in two words of 64 bits: half as many loads and stores
// for adapters that make one for each word.

alias StorageVector = vec2<u64>;

fn decode(stored: StorageVector) -> vec4<f32> {
    let low = vec2<u32>(stored);
    let high = vec2<u32>(stored >> vec2(32u));
    return bitcast<vec4<f32>>(vec4(low.x, high.x, low.y, high.y));
}

fn encode(values: vec4<f32>) -> StorageVector {
    let bits = bitcast<vec4<u32>>(values);
    return vec2<u64>(bits.xz) | (vec2<u64>(bits.yw) << vec2(32u));
}
