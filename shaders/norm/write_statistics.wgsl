// Writes the statistics that moments make: `saved`, the rows [mean: M] [inv_std: M] [mean_low: M] for M statistics, and
// what the file in slot `running` does with them.

#import params
#import standardize
#import mean
#import monoid
#import running
#bind write saved: array<f32>

// The mean, rounded to millionths of the deviation. Values of the size of the deviation subtract from that without
// rounding. From a mean near zero, which has more digits than they, they would be rounded all to the same side.
fn center_of(mean: vec4<f32>, inv_std: vec4<f32>) -> vec4<f32> {
    // The power of two in inv_std.
    let scale = 1048576.0 * bitcast<vec4<f32>>(bitcast<vec4<u32>>(inv_std) & vec4(0x7f800000u));
    let scaled = mean * scale;
    // A larger mean has no digits beyond.
    let rounds = (abs(scaled) < vec4(8388608.0)) & (scale > vec4(0.0));
    return select(mean, round(scaled) / select(vec4(1.0), scale, rounds), rounds);
}

fn statistics_of(total: Partial) -> Statistics {
    let mean = mean_of(total);
    let variance = total.m2 / max(total.count, vec4(1.0));
    if !CENTERED {
        // The mean of the squares. Both terms are positive, and nothing cancels.
        let inv_rms = inverse_std(variance + mean.nearest * mean.nearest);
        return Statistics(vec4(0.0), vec4(0.0), inv_rms);
    }
    let inv_std = inverse_std(variance);
    let center = center_of(mean.nearest, inv_std);
    return Statistics(center, (mean.nearest - center) + mean.low, inv_std);
}

// Writes one statistic: component `c` of the total. One lane does it.
fn write_statistics(index: u32, total: Partial, statistics: Statistics, c: u32) {
    let count = params.geometry.statistics;
    saved[index] = statistics.mean[c];
    saved[count + index] = statistics.inv_std[c];
    saved[2u * count + index] = statistics.mean_low[c];
    move_running(index, statistics.mean[c] + statistics.mean_low[c], total.m2[c], total.count[c]);
}
