// A channel's moments are left as they are: the rows [mean: C] [residual: C] [m2: C] [count: C].

#import settle_mean

@group(0) @binding(2) var<storage, read_write> moments: array<f32>;

fn conclude(channel: u32, total: Partial) {
    let channels = params.geometry.channels;
    let mean = mean_of(total);
    moments[channel] = mean.rounded.x;
    moments[channels + channel] = mean.residual.x;
    moments[2u * channels + channel] = total.m2.x;
    moments[3u * channels + channel] = total.count.x;
}
