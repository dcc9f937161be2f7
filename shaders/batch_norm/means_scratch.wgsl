// The means that dx needs, as the pass before left them at the head of scratch memory: pairs, channel by channel.

#import params
#import layout

@group(0) @binding(5) var<storage, read> scratch: array<vec2<f32>>;

fn means_of(channels: vec4<u32>) -> Means {
    let first = scratch[channels.x];
    if UNIT_IS_CHANNEL {
        return Means(first.xxxx, first.yyyy);
    }
    let second = scratch[channels.y];
    let third = scratch[channels.z];
    let fourth = scratch[channels.w];
    return Means(
        vec4(first.x, second.x, third.x, fourth.x),
        vec4(first.y, second.y, third.y, fourth.y),
    );
}
