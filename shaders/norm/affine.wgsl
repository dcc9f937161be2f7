// Weight and bias of four values.

#import parameter_rows
#import lane_range
#bind read affine: array<f32>

// Whether 1 is added to the weight.
override UNIT_OFFSET: bool = false;

fn weights(index: vec4<u32>) -> vec4<f32> {
    if !HAS_WEIGHT {
        return vec4(1.0);
    }
    let offset = select(0.0, 1.0, UNIT_OFFSET);
    if PARAMETERS_SHARE {
        return vec4(affine[index.x] + offset);
    }
    return vec4(affine[index.x], affine[index.y], affine[index.z], affine[index.w]) + offset;
}

fn biases(index: vec4<u32>) -> vec4<f32> {
    if !HAS_BIAS {
        return vec4(0.0);
    }
    let at = index + bias_row();
    if PARAMETERS_SHARE {
        return vec4(affine[at.x]);
    }
    return vec4(affine[at.x], affine[at.y], affine[at.z], affine[at.w]);
}
