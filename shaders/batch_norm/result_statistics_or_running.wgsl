// Moments become statistics, except those of a single value: the running statistics stand in for them.

#import params
#import standardize
#import write_statistics
#import monoid
#bind write running: array<u32>
#bind write saved: array<f32>

fn result_count() -> u32 {
    return params.geometry.statistics;
}

fn write_result(index: u32, total: Partial) {
    if total.count.x > 1.0 {
        write_statistics(index, total, statistics_of(total), 0u);
    } else if total.count.x > 0.0 {
        let channels = params.geometry.statistics;
        saved[index] = bitcast<f32>(running[index]);
        saved[channels + index] = inverse_std(vec4(bitcast<f32>(running[channels + index]))).x;
        saved[2u * channels + index] = 0.0;
    }
}
