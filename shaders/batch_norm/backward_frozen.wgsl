// Backward by frozen statistics, in one pass over memory: dx, and the sums of one chunk of one unit.

#import backward_coefficients
#import backward_collect
#import known_statistics
#import block_reduce
#import store_partial

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read_write> scratch: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn backward_frozen(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane_walk = walk(work, lane);
    let own_channels = channels(lane_walk);
    let beyond_channels = channels_beyond(lane_walk);
    let own = backward_coefficients(own_channels, known_statistics(own_channels));
    let beyond = backward_coefficients(beyond_channels, known_statistics(beyond_channels));
    var mine = identity();
    var cursor = cursor_at(lane_walk);
    for (var item = lane_walk.item; item < lane_walk.end; item += params.geometry.step) {
        let at = place(lane_walk, cursor, true);
        cursor = cursor_next(cursor);
        let c = choose_backward(own, beyond, at.beyond);
        let values = decode(x[at.vector]);
        let gradient = incoming(at, values, c.forward);
        mine = combine(mine, sums_at(at, values, gradient, c.statistics));
        if at.owned {
            store_dx(at.vector, outgoing(values, gradient, c));
        }
    }
    let total = block_reduce(lane, mine, params.geometry.width);
    let column = lane_walk.unit * params.geometry.width + lane;
    if lane < params.geometry.width && column < params.partial_columns {
        store_partial(lane_walk.chunk, column, total);
    }
}
