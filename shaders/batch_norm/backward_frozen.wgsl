// Backward by frozen statistics, in one pass over memory: dx, and the sums of one chunk of one unit.

#import backward_coefficients
#import backward_collect
#import backward_known
#import block_reduce
#import store_partial

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read_write> scratch: array<Entry>;

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
    var own: array<BackwardCoefficients, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        own[j] = known(channels(lane_walk, j));
    }
    let beyond = known(channels_beyond(lane_walk, 0u));
    var totals: array<Partial, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        totals[j] = identity();
    }
    var cursor = cursor_at(lane_walk);
    for (var item = lane_walk.item; item < lane_walk.end; item += params.geometry.step) {
        for (var j = 0u; j < COLUMNS; j++) {
            let at = place(lane_walk, cursor, j);
            let c = choose_backward(own[j], beyond, at.beyond);
            let values = decode(x[at.vector]);
            let gradient = incoming(at, values, c.forward);
            totals[j] = combine(totals[j], sums_at(at, values, gradient, c.statistics));
            if at.owned {
                store_dx(at.vector, outgoing(values, gradient, c));
            }
        }
        cursor = cursor_next(cursor);
    }
    for (var j = 0u; j < COLUMNS; j++) {
        let total = block_reduce(lane, totals[j]);
        if lane < WIDTH && has_values(lane_walk, j) {
            store_partial(lane_walk, j, total);
        }
    }
}
