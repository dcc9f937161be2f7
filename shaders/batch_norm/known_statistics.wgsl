// Statistics that an earlier pass left. The kernel binds `statistics`: the rows [mean: C] [inv_std: C]
// [residual: C] of a batch, or, where FROZEN, the rows [mean: C] [variance: C] of the running ones.

#import standardize
#import layout

fn statistics_row(row: u32, channels: vec4<u32>) -> vec4<f32> {
    let at = channels + row * params.geometry.channels;
    if UNIT_IS_CHANNEL {
        return vec4(statistics[at.x]);
    }
    return vec4(statistics[at.x], statistics[at.y], statistics[at.z], statistics[at.w]);
}

fn known_statistics(channels: vec4<u32>) -> Statistics {
    let mean = statistics_row(0u, channels);
    if FROZEN {
        return Statistics(mean, vec4(0.0), inverse_std(statistics_row(1u, channels)));
    }
    return Statistics(mean, statistics_row(2u, channels), statistics_row(1u, channels));
}
