// Backward in one dispatch: a workgroup sums over its unit, then reads it again, from cache where it
// fits, for dx.

#import backward_collect
#import block_reduce
#import backward_settle_unit
#import backward_apply
#import backward_known

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read_write> grads: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn backward_reread(
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
        own[j] = known(channels(lane_walk, j));
    }
    var totals: array<Partial, COLUMNS>;
    collect_backward(lane_walk, &own, &totals);
    for (var j = 0u; j < COLUMNS; j++) {
        let total = block_reduce(lane, totals[j]);
        own[j] = settle_unit_backward(lane_walk, lane, j, own[j], total);
    }
    // The plan takes this kernel only where no vector meets two channels.
    apply_backward(lane_walk, &own, own[0]);
}
