// A channel's sums are left as they are, with the number of values: the rows [sum_g: C] [sum_x_hat_g: C] [count: C].
// Those of several devices add up.

#import params
#import monoid

@group(0) @binding(2) var<storage, read_write> sums: array<f32>;

fn conclude(channel: u32, total: Partial) {
    let channels = params.geometry.channels;
    sums[channel] = total.dy.x;
    sums[channels + channel] = total.x_hat_dy.x;
    sums[2u * channels + channel] = params.count;
}
