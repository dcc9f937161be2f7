// As affine_vectors, in words of 64 bits.

#import wide_words
#bind read affine: array<vec2<u64>>

fn affine_at(index: vec4<u32>) -> vec4<f32> {
    return values_of_words(affine[index.x / 4u]);
}
