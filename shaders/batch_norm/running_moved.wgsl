// Moves the running statistics: the rows [running_mean: C] [running_var: C] of f32, and [num_batches_tracked: C]
// [num_batches_skipped: C] of u32.
//
// Each channel has its own counters, so that no workgroup waits for another one to have counted.

#import params
#bind write running: array<u32>

// Whether each batch has the same weight, by the counter, and not the momentum of the settings.
override CUMULATIVE: bool = false;
// Whether a batch's variance is the mean of the squared deviations, and not their sum over one value less.
override BIASED: bool = false;
// Whether a batch with one value a channel moves anything. Its variance is zero.
override SINGLE_VALUE_MOVES: bool = false;
// Whether a batch that is not finite is counted, and moves nothing.
override SKIP_NON_FINITE: bool = false;

// Neither infinite nor NaN. By bits, because a WGSL compiler may assume that no value is.
fn is_finite(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
}

// Counters stay at their largest value. Back at zero, one would weigh the next batch as the first.
fn count_batch(at: u32) -> u32 {
    let batches = min(running[at], 0xfffffffeu) + 1u;
    running[at] = batches;
    return batches;
}

fn move_running(channel: u32, mean: f32, m2: f32, count: f32) {
    let channels = params.geometry.statistics;
    if count <= 1.0 && !SINGLE_VALUE_MOVES {
        return;
    }
    if SKIP_NON_FINITE && !(is_finite(mean) && is_finite(m2)) {
        count_batch(3u * channels + channel);
        return;
    }
    let batches = count_batch(2u * channels + channel);
    let momentum = select(params.settings.momentum, 1.0 / f32(batches), CUMULATIVE);
    // Normalization takes the biased variance; torch's running estimate is the unbiased one.
    let variance = m2 / max(select(count - 1.0, count, BIASED), 1.0);
    let old_mean = bitcast<f32>(running[channel]);
    let old_var = bitcast<f32>(running[channels + channel]);
    running[channel] = bitcast<u32>((1.0 - momentum) * old_mean + momentum * mean);
    running[channels + channel] = bitcast<u32>((1.0 - momentum) * old_var + momentum * variance);
}
