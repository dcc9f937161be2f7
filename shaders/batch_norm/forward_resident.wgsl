// Forward in one dispatch that reads x once: a workgroup keeps its unit in registers, as it is stored, from the
// statistics to the normalization.

#import held
#import layout
#import element
#import monoid
#import block_reduce
#import settle_unit
#import values
#import epilogue

@group(0) @binding(3) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read_write> running: array<u32>;
@group(0) @binding(6) var<storage, read_write> saved: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn forward_resident(
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
    var kept: array<StorageVector, HELD>;
    var cursor = cursor_at(lane_walk);
    for (var i = 0u; i < HELD; i++) {
        if i < mine {
            kept[i] = x[place(lane_walk, cursor, 0u).vector];
        }
        cursor = cursor_next(cursor);
    }

    // The lane's moments, by two passes over its registers.
    let pivot = decode(kept[0]);
    var sum = vec4(0.0);
    for (var i = 0u; i < HELD; i++) {
        if i < mine {
            sum += decode(kept[i]) - pivot;
        }
    }
    let offset = sum / f32(max(mine, 1u));
    var m2 = vec4(0.0);
    for (var i = 0u; i < HELD; i++) {
        if i < mine {
            let deviation = (decode(kept[i]) - pivot) - offset;
            m2 += deviation * deviation;
        }
    }
    let moments = Partial(pivot, offset, m2, vec4(f32(mine)));

    let total = block_reduce(lane, moments);
    let own = settle_unit(lane_walk, lane, 0u, total);
    cursor = cursor_at(lane_walk);
    for (var i = 0u; i < HELD; i++) {
        if i < mine {
            let vector = place(lane_walk, cursor, 0u).vector;
            store_y(vector, finish(vector, normalized(decode(kept[i]), own)));
        }
        cursor = cursor_next(cursor);
    }
}
