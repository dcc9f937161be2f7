// The averages of the moments of a channel's instances move its running statistics, as the moments of a batch do. All
// instances have as many values as the first.

#import params
#import monoid
#import running
#bind read moments: array<f32>

fn result_count() -> u32 {
    return params.geometry.statistics;
}

fn write_result(index: u32, total: Partial) {
    let samples = f32(params.reduction.parts);
    let mean = moments[index] + total.g.x / samples;
    let count = moments[3u * params.reduction.part_stride + index];
    move_running(index, mean, total.x_hat_g.x / samples, count);
}
