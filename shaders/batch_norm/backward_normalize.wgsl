// Backward, elementwise: dx from statistics and sums that are known.

#import backward_apply
#import backward_known
#import means
#import workgroup

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;

// Of dy and of x_hat * dy.
struct Means {
    dy: vec4<f32>,
    x_hat_dy: vec4<f32>,
}

fn known_coefficients(channels: vec4<u32>) -> BackwardCoefficients {
    // Frozen statistics need no means, and nobody has left any.
    var means = Means(vec4(0.0), vec4(0.0));
    if !FROZEN {
        means = means_of(channels);
    }
    return coupled(known(channels), means.dy, means.x_hat_dy);
}

@compute @workgroup_size(WORKGROUP)
fn backward_normalize(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane_walk = walk(work, lane);
    var own: array<BackwardCoefficients, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        own[j] = known_coefficients(channels(lane_walk, j));
    }
    apply_backward(lane_walk, &own, known_coefficients(channels_beyond(lane_walk, 0u)));
}
