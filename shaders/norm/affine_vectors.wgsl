// The parameters of four values are neighbours, and the index of the first is a multiple of four: one load for all.

#bind read affine: array<vec4<f32>>

fn affine_at(index: vec4<u32>) -> vec4<f32> {
    return affine[index.x / 4u];
}
