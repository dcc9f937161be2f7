// Forward in one dispatch: a workgroup accumulates the moments of its unit, then reads it again, from cache if it fits,
// to normalize it.

#import accumulate_moments
#import block_reduce
#import own_unit_statistics
#import apply

@compute @workgroup_size(WORKGROUP)
fn forward_reread(
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
    var totals: array<Partial, COLUMNS>;
    var own: array<Coefficients, COLUMNS>;
    accumulate_moments(range, &totals);
    for (var j = 0u; j < COLUMNS; j++) {
        let total = block_reduce(lane, totals[j]);
        own[j] = own_unit_statistics(range, lane, j, total);
    }
    // Plans take this kernel only if no vector has values of two statistics.
    apply(range, &own, own[0]);
}
