// Backward with frozen statistics, in one pass over memory: writes dx, and stores the sums of one chunk of one unit.

#import accumulate_sums
#import block_reduce
#import store_partial
#import dx

@compute @workgroup_size(WORKGROUP)
fn backward_frozen(
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
    let next = stored_backward_coefficients(
        next_statistics_index(range, 0u),
        next_parameter_index(range, 0u),
    );
    var sums: array<LongSums, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        sums[j] = no_sums();
    }
    let team_rows = params.geometry.team_rows;
    var cursor = cursor_at(range);
    var item = range.item;
    while item < range.end {
        let end = min(item + BLOCK * team_rows, range.end);
        var terms: array<Partial, COLUMNS>;
        for (var j = 0u; j < COLUMNS; j++) {
            terms[j] = identity();
        }
        for (; item < end; item += team_rows) {
            for (var j = 0u; j < COLUMNS; j++) {
                let at = place(range, cursor, j);
                let c = select_backward_coefficients(own[j], next, at.next);
                let values = x_at(at.vector);
                let gradient = epilogue_backward(at, values, c.forward);
                terms[j] = combine(terms[j], sums_of_values(at, values, gradient, c.statistics));
                if at.owned {
                    store_dx(at.vector, input_gradient(values, gradient, c));
                }
            }
            cursor = cursor_next(cursor);
        }
        for (var j = 0u; j < COLUMNS; j++) {
            sums[j] = with_sums(sums[j], terms[j]);
        }
    }
    for (var j = 0u; j < COLUMNS; j++) {
        let total = without_rest(block_reduce(lane, rounded_sums(sums[j])), own[j].statistics);
        if lane < WIDTH && has_values(range, j) {
            store_partial(range, j, total);
        }
    }
}
