// Backward in one dispatch that reads x and dy once: a workgroup keeps both in registers, as they are stored, from
// the sums to dx.

#import held
#import layout
#import element
#import monoid
#import block_reduce
#import backward_collect
#import backward_settle_unit
#import backward_known

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read_write> grads: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn backward_resident(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane_walk = walk(work, lane);
    let mine = items(lane_walk);
    let before = known(channels(lane_walk, 0u));
    var kept_x: array<StorageVector, HELD>;
    // What comes back through the epilogue: dy or zero, so that nothing is lost by keeping it as it is stored.
    var kept_g: array<StorageVector, HELD>;
    var sums = identity();
    var cursor = cursor_at(lane_walk);
    for (var i = 0u; i < HELD; i++) {
        if i < mine {
            let at = place(lane_walk, cursor, 0u);
            kept_x[i] = x[at.vector];
            let value = decode(kept_x[i]);
            let gradient = incoming(at, value, before.forward);
            kept_g[i] = encode(gradient);
            sums = combine(sums, sums_at(at, value, gradient, before.statistics));
        }
        cursor = cursor_next(cursor);
    }

    let total = block_reduce(lane, sums);
    let own = settle_unit_backward(lane_walk, lane, 0u, before, total);
    cursor = cursor_at(lane_walk);
    for (var i = 0u; i < HELD; i++) {
        if i < mine {
            let vector = place(lane_walk, cursor, 0u).vector;
            store_dx(vector, outgoing(decode(kept_x[i]), decode(kept_g[i]), own));
        }
        cursor = cursor_next(cursor);
    }
}
