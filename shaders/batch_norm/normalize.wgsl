// Forward, elementwise: normalizes by statistics that are known, a batch's or the running ones.

#import apply
#import known_statistics
#import workgroup

@group(0) @binding(3) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read> statistics: array<f32>;

fn known_coefficients(channels: vec4<u32>) -> Coefficients {
    return coefficients(channels, known_statistics(channels));
}

@compute @workgroup_size(WORKGROUP)
fn normalize(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane_walk = walk(work, lane);
    var own: array<Coefficients, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        own[j] = known_coefficients(channels(lane_walk, j));
    }
    apply(lane_walk, &own, known_coefficients(channels_beyond(lane_walk, 0u)));
}
