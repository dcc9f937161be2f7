// Moments are written as they are: the rows [mean: M] [mean_low: M] [m2: M] [count: M] for M statistics.

#import params
#import mean
#import monoid
#bind write moments: array<f32>

fn result_count() -> u32 {
    return params.geometry.statistics;
}

fn write_result(index: u32, total: Partial) {
    let count = params.geometry.statistics;
    let mean = mean_of(total);
    moments[index] = mean.nearest.x;
    moments[count + index] = mean.low.x;
    moments[2u * count + index] = total.m2.x;
    moments[3u * count + index] = total.count.x;
}
