// Writes the statistics that moments make: `saved`, the rows [mean: M] [inv_std: M] [mean_low: M] for M statistics, and
// what the file in slot `running` does with them.

#import params
#import standardize
#import mean
#import monoid
#import running
#bind write saved: array<f32>

fn statistics_of(total: Partial) -> Statistics {
    let mean = mean_of(total);
    return Statistics(
        mean.nearest,
        mean.low,
        inverse_std(total.m2 / max(total.count, vec4(1.0))),
    );
}

// Writes one statistic: component `c` of the total. One lane does it.
fn write_statistics(index: u32, total: Partial, statistics: Statistics, c: u32) {
    let count = params.geometry.statistics;
    saved[index] = statistics.mean[c];
    saved[count + index] = statistics.inv_std[c];
    saved[2u * count + index] = statistics.mean_low[c];
    // Normalization takes the biased variance, a running estimate the unbiased one.
    move_running(index, statistics.mean[c], total.m2[c] / max(total.count[c] - 1.0, 1.0));
}
