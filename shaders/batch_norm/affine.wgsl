// Weight and bias of four channels. The kernel binds `affine`, the rows [weight: C] [bias: C] of which
// either may be missing.

#import params
#import layout

fn weights(channels: vec4<u32>) -> vec4<f32> {
    if !has(HAS_WEIGHT) {
        return vec4(1.0);
    }
    if UNIT_IS_CHANNEL {
        return vec4(affine[channels.x]);
    }
    return vec4(affine[channels.x], affine[channels.y], affine[channels.z], affine[channels.w]);
}

fn biases(channels: vec4<u32>) -> vec4<f32> {
    if !has(HAS_BIAS) {
        return vec4(0.0);
    }
    let at = channels + select(0u, params.geometry.channels, has(HAS_WEIGHT));
    if UNIT_IS_CHANNEL {
        return vec4(affine[at.x]);
    }
    return vec4(affine[at.x], affine[at.y], affine[at.z], affine[at.w]);
}
