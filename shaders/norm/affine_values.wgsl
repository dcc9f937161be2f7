// Parameters are loaded one by one.

#import lane_range
#bind read affine: array<f32>

fn affine_at(index: vec4<u32>) -> vec4<f32> {
    if PARAMETERS_SHARE {
        return vec4(affine[index.x]);
    }
    return vec4(affine[index.x], affine[index.y], affine[index.z], affine[index.w]);
}
