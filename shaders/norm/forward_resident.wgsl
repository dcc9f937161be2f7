// Forward in one dispatch that reads x once: a workgroup holds its unit in registers, as it is stored, from the statistics
// to the normalization.

#import layout
#import x
#import monoid
#import settle
#import block_reduce
#import own_unit_statistics
#import y
#import epilogue
// Vectors that a lane holds in registers.
#const REGISTER_VECTORS

@compute @workgroup_size(WORKGROUP)
fn forward_resident(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane = lane_of(invocation);
    let range = lane_range(work, lane);
    let mine = items(range);
    var held: array<StorageVector, REGISTER_VECTORS>;
    var cursor = cursor_at(range);
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        if i < mine {
            held[i] = load_x_first(place(range, cursor, 0u));
        }
        cursor = cursor_next(cursor);
    }

    // The moments of the lane, in two passes over its registers: the first finds a pivot near the mean.
    let some = f32(max(mine, 1u));
    let first = decode(held[0]);
    var sum = vec4(0.0);
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        if i < mine {
            sum += decode(held[i]) - first;
        }
    }
    let pivot = settled(first, sum / some).high;
    sum = vec4(0.0);
    var squares = vec4(0.0);
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        if i < mine {
            let difference = decode(held[i]) - pivot;
            sum += difference;
            squares += difference * difference;
        }
    }
    let offset = sum / some;
    let mine_total = Partial(pivot, offset, corrected(squares, sum * offset), vec4(f32(mine)));

    let total = block_reduce(lane, mine_total);
    let own = own_unit_statistics(range, lane, 0u, total);
    cursor = cursor_at(range);
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        if i < mine {
            let at = place(range, cursor, 0u);
            let value = normalized(decode(held[i]), with_parameters(own, parameters_at(at)));
            store_y(at.vector, finish(at.vector, value));
        }
        cursor = cursor_next(cursor);
    }
}
