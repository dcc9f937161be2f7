// Moments become statistics.

#import params
#import write_statistics
#import monoid

fn result_count() -> u32 {
    return params.geometry.statistics;
}

fn write_result(index: u32, total: Partial) {
    // Without values there are no statistics, and running ones stay as they are.
    if total.count.x > 0.0 {
        write_statistics(index, total, statistics_of(total), 0u);
    }
}
