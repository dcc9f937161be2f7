// Backward, split: stores the sums of one chunk of one unit.

#import accumulate_sums
#import block_reduce
#import store_partial

@compute @workgroup_size(WORKGROUP)
fn backward_stats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane = lane_of(invocation);
    let range = lane_range(work, lane);
    var own: array<BackwardCoefficients, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        own[j] = stored_backward_coefficients(statistics_index(range, j), parameter_index(range, j));
    }
    var totals: array<Partial, COLUMNS>;
    accumulate_sums(range, &own, &totals);
    for (var j = 0u; j < COLUMNS; j++) {
        let total = without_rest(block_reduce(lane, totals[j]), own[j].statistics);
        if lane < WIDTH && has_values(range, j) {
            store_partial(range, j, total);
        }
    }
}
