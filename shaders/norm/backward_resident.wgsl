// Backward in one dispatch that reads x and dy once: a workgroup holds both in registers, as they are stored, from the sums
// to dx.

#import layout
#import x
#import monoid
#import block_reduce
#import accumulate_sums
#import own_unit_gradients
#import dx
// Vectors of each tensor that a lane holds in registers.
#const REGISTER_VECTORS

@compute @workgroup_size(WORKGROUP)
fn backward_resident(
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
    let stored = stored_backward_coefficients(statistics_index(range, 0u), parameter_index(range, 0u));
    var held_x: array<StorageVector, REGISTER_VECTORS>;
    // The gradient of the normalized values is dy or zero, so that storing it loses nothing.
    var held_g: array<StorageVector, REGISTER_VECTORS>;
    var sums = identity();
    var cursor = cursor_at(range);
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        if i < mine {
            let at = place(range, cursor, 0u);
            held_x[i] = load_x(at.vector);
            let value = decode(held_x[i]);
            let c = with_varying(stored, varying_at(at));
            let gradient = epilogue_backward(at, value, c.forward);
            held_g[i] = encode(gradient);
            sums = combine(sums, sums_of_values(at, value, weighted(gradient, c), c.statistics));
        }
        cursor = cursor_next(cursor);
    }

    let total = without_rest(block_reduce(lane, sums), stored.statistics);
    let own = own_unit_gradients(range, lane, 0u, stored, total);
    cursor = cursor_at(range);
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        if i < mine {
            let at = place(range, cursor, 0u);
            let c = with_varying(own, varying_at(at));
            store_dx(at.vector, input_gradient(decode(held_x[i]), decode(held_g[i]), c));
        }
        cursor = cursor_next(cursor);
    }
}
