// What a channel's moments become: saved and running statistics. The kernel binds `saved`, the rows
// [mean: C] [inv_std: C] [residual: C], and `running`, the rows [running_mean: C] [running_var: C]
// [num_batches_tracked: C], the last of them integers.

#import standardize
#import settle_mean
#import monoid

fn statistics_of(total: Partial) -> Statistics {
    let mean = mean_of(total);
    return Statistics(
        mean.rounded,
        mean.residual,
        inverse_std(total.m2 / max(total.count, vec4(1.0))),
    );
}

// Writes the statistics of one channel, component `c` of the total. One invocation does it.
//
// Each channel has a counter of its own, so that no workgroup waits for another to have counted.
fn settle(channel: u32, total: Partial, statistics: Statistics, c: u32) {
    let channels = params.geometry.channels;
    saved[channel] = statistics.mean[c];
    saved[channels + channel] = statistics.inv_std[c];
    saved[2u * channels + channel] = statistics.residual[c];
    if !has(TRACK) {
        return;
    }
    let batches = running[2u * channels + channel] + 1u;
    running[2u * channels + channel] = batches;
    let momentum = select(params.momentum, 1.0 / f32(batches), has(CUMULATIVE));
    // Normalization takes the biased variance, the running estimate the unbiased one.
    let unbiased = total.m2[c] / max(total.count[c] - 1.0, 1.0);
    let old_mean = bitcast<f32>(running[channel]);
    let old_var = bitcast<f32>(running[channels + channel]);
    running[channel] = bitcast<u32>((1.0 - momentum) * old_mean + momentum * statistics.mean[c]);
    running[channels + channel] = bitcast<u32>((1.0 - momentum) * old_var + momentum * unbiased);
}
