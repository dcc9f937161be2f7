// The means that dx needs, from the rows [sum_g: C] [sum_x_hat_g: C] [count: C].

#import params
#import layout

@group(0) @binding(5) var<storage, read> sums: array<f32>;

fn sum_row(row: u32, channels: vec4<u32>) -> vec4<f32> {
    let at = channels + row * params.geometry.channels;
    if UNIT_IS_CHANNEL {
        return vec4(sums[at.x]);
    }
    return vec4(sums[at.x], sums[at.y], sums[at.z], sums[at.w]);
}

fn means_of(channels: vec4<u32>) -> Means {
    let count = max(sum_row(2u, channels), vec4(1.0));
    return Means(sum_row(0u, channels) / count, sum_row(1u, channels) / count);
}
