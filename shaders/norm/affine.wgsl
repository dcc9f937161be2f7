// Weight and bias of four values.

#import parameter_rows
#import layout
#bind read affine: array<f32>

fn weights(index: vec4<u32>) -> vec4<f32> {
    if !HAS_WEIGHT {
        return vec4(1.0);
    }
    if COMPONENTS_SHARE {
        return vec4(affine[index.x]);
    }
    return vec4(affine[index.x], affine[index.y], affine[index.z], affine[index.w]);
}

fn biases(index: vec4<u32>) -> vec4<f32> {
    if !HAS_BIAS {
        return vec4(0.0);
    }
    let at = index + bias_row();
    if COMPONENTS_SHARE {
        return vec4(affine[at.x]);
    }
    return vec4(affine[at.x], affine[at.y], affine[at.z], affine[at.w]);
}
