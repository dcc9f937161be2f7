// Backward with frozen statistics, in one pass over memory: writes dx, and stores the sums of one chunk of one unit.

#import accumulate_sums
#import block_reduce
#import store_partial
#import element
#import dx

fn store_owned_dx(at: Place, dx: vec4<f32>) {
    if at.owned {
        store_dx(at.vector, dx);
    }
}

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
        // Several columns are neighbours in memory, and are best read row by row.
        if COLUMNS == 1u {
            for (; item + team_rows < end; item += 2u * team_rows) {
                let p0 = place(range, cursor, 0u);
                cursor = cursor_next(cursor);
                let p1 = place(range, cursor, 0u);
                cursor = cursor_next(cursor);
                // What is stored is kept for the end: the branches of stores would keep the loads apart.
                let x0 = decode(load_x(p0.vector));
                let x1 = decode(load_x(p1.vector));
                let c0 = select_backward_coefficients(own[0], next, p0.next);
                let gradient0 = epilogue_backward(p0, x0, c0.forward);
                terms[0] = combine(terms[0], sums_of_values(p0, x0, gradient0, c0.statistics));
                let dx0 = input_gradient(x0, gradient0, c0);
                let c1 = select_backward_coefficients(own[0], next, p1.next);
                let gradient1 = epilogue_backward(p1, x1, c1.forward);
                terms[0] = combine(terms[0], sums_of_values(p1, x1, gradient1, c1.statistics));
                store_owned_dx(p0, dx0);
                store_owned_dx(p1, input_gradient(x1, gradient1, c1));
            }
        }
        for (; item < end; item += team_rows) {
            for (var j = 0u; j < COLUMNS; j++) {
                let at = place(range, cursor, j);
                let c = select_backward_coefficients(own[j], next, at.next);
                let x = decode(load_x(at.vector));
                let gradient = epilogue_backward(at, x, c.forward);
                terms[j] = combine(terms[j], sums_of_values(at, x, gradient, c.statistics));
                store_owned_dx(at, input_gradient(x, gradient, c));
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
