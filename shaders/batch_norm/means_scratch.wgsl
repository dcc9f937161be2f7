// The means that dx needs, as the pass before left them at the head of scratch memory.

#import params
#import layout

@group(0) @binding(5) var<storage, read> scratch: array<f32>;

fn mean_row(row: u32, channels: vec4<u32>) -> vec4<f32> {
    let at = channels + row * params.geometry.channels;
    if UNIT_IS_CHANNEL {
        return vec4(scratch[at.x]);
    }
    return vec4(scratch[at.x], scratch[at.y], scratch[at.z], scratch[at.w]);
}
