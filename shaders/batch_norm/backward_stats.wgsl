// Backward, split: the sums of one chunk of one unit, left in scratch memory.

#import backward_collect
#import backward_known
#import block_reduce
#import store_partial

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(7) var<storage, read_write> scratch: array<Entry>;

@compute @workgroup_size(WORKGROUP)
fn backward_stats(
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
        if lane < WIDTH && has_values(lane_walk, j) {
            store_partial(lane_walk, j, total);
        }
    }
}
