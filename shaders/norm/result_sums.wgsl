// Sums are written as they are, with the number of values: the rows [sum x_hat_g: M] [sum g: M] [count: M] for M
// statistics. Those of several devices add up.

#import params
#import monoid
#bind write sums: array<f32>

fn result_count() -> u32 {
    return params.geometry.statistics;
}

fn write_result(index: u32, total: Partial) {
    let statistics = params.geometry.statistics;
    sums[index] = total.x_hat_g.x;
    sums[statistics + index] = total.g.x;
    sums[2u * statistics + index] = params.reduction.count;
}
