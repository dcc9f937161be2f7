// Four f32 in two words of 64 bits: half as many loads for adapters that make one for each word.

fn values_of_words(words: vec2<u64>) -> vec4<f32> {
    let low = vec2<u32>(words);
    let high = vec2<u32>(words >> vec2(32u));
    return bitcast<vec4<f32>>(vec4(low.x, high.x, low.y, high.y));
}
