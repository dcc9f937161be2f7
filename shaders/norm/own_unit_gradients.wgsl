// For kernels in which one workgroup has the sums of a whole unit: writes what the unit adds to the gradients of the
// parameters, and returns the coefficients of dx.

#import backward_coefficients
#import layout
#import monoid
#import unit_gradients

// For column `j`, whose total each lane has.
fn own_unit_gradients(
    range: LaneRange,
    lane: u32,
    j: u32,
    stored: BackwardCoefficients,
    total: Partial,
) -> BackwardCoefficients {
    if lane < WIDTH && has_values(range, j) {
        let index = statistics_index(range, j);
        write_unit_gradients(index.x, total, 0u);
        if !COMPONENTS_SHARE {
            write_unit_gradients(index.y, total, 1u);
            write_unit_gradients(index.z, total, 2u);
            write_unit_gradients(index.w, total, 3u);
        }
    }
    let share = params.reduction.inverse_count;
    return with_means(stored, Means(total.g * share, total.x_hat_g * share));
}
