// Backward of rows in one pass over memory: dx, and the sums that the gradients of the parameters are made of. A workgroup
// takes several units of one outer group, one after the other, and a unit is WIDTH rows side by side. A lane holds its
// vectors of x and dy in registers from the sums of the row to dx. It keeps its columns in all rows, and adds up their
// gradients.

#import layout
#import x
#import monoid
#import block_reduce
#import backward_coefficients
#import coefficients
#import epilogue_backward
#import standardize
#import dx
#import store_entries
// Vectors of each tensor that a lane holds in registers.
#const REGISTER_VECTORS

@compute @workgroup_size(WORKGROUP)
fn backward_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let work = linear_group(group, groups);
    let units = params.geometry.outer_units;
    let shares = (units + params.geometry.share - 1u) / params.geometry.share;
    let outer = work / shares;
    let first_unit = outer * units + work % shares * params.geometry.share;
    if first_unit >= params.geometry.units {
        return;
    }
    let lane = lane_of(invocation);
    // The gradients of the parameters of the lane's columns.
    var gradients: array<Partial, REGISTER_VECTORS>;
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        gradients[i] = identity();
    }
    // The last workgroup of a group may have fewer.
    let end_unit = min(first_unit + params.geometry.share, (outer + 1u) * units);
    for (var unit = first_unit; unit < end_unit; unit++) {
        let range = lane_range(unit, lane);
        let mine = items(range);
        let stored = stored_backward_coefficients(statistics_index(range, 0u), parameter_index(range, 0u));
        var held_x: array<StorageVector, REGISTER_VECTORS>;
        // The gradient of the normalized values is dy or zero, so that storing it loses nothing.
        var held_g: array<StorageVector, REGISTER_VECTORS>;
        var sums = identity();
        // By itself, so that all of these loads are under way at once.
        var cursor = cursor_at(range);
        for (var i = 0u; i < REGISTER_VECTORS; i++) {
            if i < mine {
                held_x[i] = load_x(place(range, cursor, 0u).vector);
            }
            cursor = cursor_next(cursor);
        }
        cursor = cursor_at(range);
        for (var i = 0u; i < REGISTER_VECTORS; i++) {
            if i < mine {
                let at = place(range, cursor, 0u);
                let c = with_varying(stored, varying_at(at));
                let value = decode(held_x[i]);
                let gradient = epilogue_backward(at, value, c.forward);
                held_g[i] = encode(gradient);
                // Rows differ in what is left of their means, so that it cannot be taken off at the end.
                let x_hat = standardize(value, c.statistics);
                gradients[i] = combine(gradients[i], Partial(gradient, before_weight(x_hat) * gradient));
                let g = weighted(gradient, c);
                sums = combine(sums, Partial(g, x_hat * g));
            }
            cursor = cursor_next(cursor);
        }

        // Lanes may still read the total of the row before.
        workgroupBarrier();
        let total = block_reduce(lane, sums);
        let share = params.reduction.inverse_count;
        let own = with_means(stored, Means(total.g * share, total.x_hat_g * share));
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

    // Rows side by side have sums of their own. Those without values have zeros, which are read, too.
    let columns = unclipped_range(0u, lane);
    let chunk = work * WIDTH + columns.column;
    let first = params.reduction.head + chunk * params.reduction.chunk_stride;
    for (var i = 0u; i < REGISTER_VECTORS; i++) {
        let vector = columns.item + i * params.geometry.team_rows;
        if vector < columns.end {
            store_entries(first + 4u * vector, gradients[i]);
        }
    }
}
