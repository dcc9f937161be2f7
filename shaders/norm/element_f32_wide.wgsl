// Activations stored as f32, four to a vector of 16 bytes, in two words of 64 bits.

#import wide_words

alias StorageVector = vec2<u64>;

fn decode(stored: StorageVector) -> vec4<f32> {
    return values_of_words(stored);
}

fn encode(values: vec4<f32>) -> StorageVector {
    let bits = bitcast<vec4<u32>>(values);
    return vec2<u64>(bits.xz) | (vec2<u64>(bits.yw) << vec2(32u));
}
