// Weight and bias of four values.

#import affine_row
#import parameter_rows

// Whether 1 is added to the weight.
override UNIT_OFFSET: bool = false;

fn weights(index: vec4<u32>) -> vec4<f32> {
    if !HAS_WEIGHT {
        return vec4(1.0);
    }
    return affine_at(index) + select(0.0, 1.0, UNIT_OFFSET);
}

fn biases(index: vec4<u32>) -> vec4<f32> {
    if !HAS_BIAS {
        return vec4(0.0);
    }
    return affine_at(index + bias_row());
}
