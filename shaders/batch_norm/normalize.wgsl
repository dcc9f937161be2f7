// Forward, elementwise: normalizes by statistics that are known, a batch's or the running ones.

#import apply
#import known_statistics
#import workgroup

@group(0) @binding(3) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read> statistics: array<f32>;

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
    let own = channels(lane_walk);
    let beyond = channels_beyond(lane_walk);
    apply(
        lane_walk,
        coefficients(own, known_statistics(own)),
        coefficients(beyond, known_statistics(beyond)),
    );
}
