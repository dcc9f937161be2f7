// Forward, elementwise: y from statistics that an earlier pass left.

#import apply
#import stored_statistics

fn stored_coefficients(statistics_index: vec4<u32>, parameter_index: vec4<u32>) -> Coefficients {
    return coefficients(parameter_index, stored_statistics(statistics_index));
}

@compute @workgroup_size(WORKGROUP)
fn normalize(
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
    var own: array<Coefficients, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        own[j] = stored_coefficients(statistics_index(range, j), parameter_index(range, j));
    }
    let next = stored_coefficients(next_statistics_index(range, 0u), next_parameter_index(range, 0u));
    apply(range, &own, next);
}
