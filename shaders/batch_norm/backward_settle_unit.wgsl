// What a workgroup does that has the sums of a whole unit: it settles the unit's channels, and knows the means
// that dx needs. The kernel binds `affine` and `grads`.

#import backward_coefficients
#import backward_settle

// For column `j`, whose total each lane has.
fn settle_unit_backward(
    walk: Walk,
    lane: u32,
    j: u32,
    known: BackwardCoefficients,
    total: Partial,
) -> BackwardCoefficients {
    if lane < WIDTH && has_values(walk, j) {
        let unit_channels = channels(walk, j);
        settle_backward(unit_channels.x, total, 0u);
        if !UNIT_IS_CHANNEL {
            settle_backward(unit_channels.y, total, 1u);
            settle_backward(unit_channels.z, total, 2u);
            settle_backward(unit_channels.w, total, 3u);
        }
    }
    return coupled(known, total.dy * params.inverse_count, total.x_hat_dy * params.inverse_count);
}
