// What a workgroup does that has the whole of a unit: it settles the unit's channels, and knows what to
// normalize them by. The kernel binds `affine`, `saved` and `running`.

#import coefficients
#import settle

// For column `j`, whose total each lane has.
fn settle_unit(walk: Walk, lane: u32, j: u32, total: Partial) -> Coefficients {
    let statistics = statistics_of(total);
    let unit_channels = channels(walk, j);
    if lane < WIDTH && has_values(walk, j) {
        settle(unit_channels.x, total, statistics, 0u);
        if !UNIT_IS_CHANNEL {
            settle(unit_channels.y, total, statistics, 1u);
            settle(unit_channels.z, total, statistics, 2u);
            settle(unit_channels.w, total, statistics, 3u);
        }
    }
    return coefficients(unit_channels, statistics);
}
