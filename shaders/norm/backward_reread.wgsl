// Backward in one dispatch: a workgroup accumulates the sums of its unit, then reads it again, from cache if it fits, to
// write dx. Where lanes have several rows, each may leave what its rows add to the gradients of parameters.

#import accumulate_sums
#import block_reduce
#import own_unit_gradients
#import backward_apply

@compute @workgroup_size(WORKGROUP)
fn backward_reread(
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
        own[j] = own_unit_gradients(range, lane, j, own[j], total);
    }
    // Plans take this kernel only if no vector has values of two statistics.
    backward_apply(range, &own, own[0]);
}
