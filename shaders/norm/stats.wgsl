// Forward, split: stores the moments of one chunk of one unit.

#import accumulate_moments
#import block_reduce
#import store_partial

@compute @workgroup_size(WORKGROUP)
fn stats(
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
    accumulate_moments(range, &totals);
    for (var j = 0u; j < COLUMNS; j++) {
        let total = block_reduce(lane, totals[j]);
        if lane < WIDTH && has_values(range, j) {
            store_partial(range, j, total);
        }
    }
}
