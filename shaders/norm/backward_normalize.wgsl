// Backward, elementwise: dx from statistics and sums that earlier passes left.

#import backward_apply
#import means

fn stored_coefficients(statistics_index: vec4<u32>, parameter_index: vec4<u32>) -> BackwardCoefficients {
    let stored = stored_backward_coefficients(statistics_index, parameter_index);
    return with_means(stored, stored_means(statistics_index));
}

@compute @workgroup_size(WORKGROUP)
fn backward_normalize(
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
        own[j] = stored_coefficients(statistics_index(range, j), parameter_index(range, j));
    }
    let next = stored_coefficients(next_statistics_index(range, 0u), next_parameter_index(range, 0u));
    backward_apply(range, &own, next);
}
