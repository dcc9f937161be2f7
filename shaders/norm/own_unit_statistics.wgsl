// For kernels in which one workgroup has a whole unit: writes the unit's statistics, and returns the coefficients that
// they make.

#import coefficients
#import layout
#import write_statistics

// For column `j`, whose total each lane has.
fn own_unit_statistics(range: LaneRange, lane: u32, j: u32, total: Partial) -> Coefficients {
    let statistics = statistics_of(total);
    let index = statistics_index(range, j);
    if lane < WIDTH && has_values(range, j) {
        write_statistics(index.x, total, statistics, 0u);
        if !COMPONENTS_SHARE {
            write_statistics(index.y, total, statistics, 1u);
            write_statistics(index.z, total, statistics, 2u);
            write_statistics(index.w, total, statistics, 3u);
        }
    }
    return coefficients(parameter_index(range, j), statistics);
}
