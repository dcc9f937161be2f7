// Backward, split: the sums of one chunk of one unit, left in scratch memory.

#import backward_collect
#import known_statistics
#import block_reduce
#import store_partial

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(7) var<storage, read_write> scratch: array<f32>;

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
    let own = channels(lane_walk);
    let mine = collect_backward(lane_walk, backward_coefficients(own, known_statistics(own)));
    let total = block_reduce(lane, mine, params.geometry.width);
    let column = lane_walk.unit * params.geometry.width + lane;
    if lane < params.geometry.width && column < params.partial_columns {
        store_partial(lane_walk.chunk, column, total);
    }
}
