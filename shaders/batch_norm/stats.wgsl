// Forward, split: the moments of one chunk of one unit, left in scratch memory.

#import collect
#import block_reduce
#import store_partial

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(2) var<storage, read_write> scratch: array<Entry>;

@compute @workgroup_size(WORKGROUP)
fn stats(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane_walk = walk(work, lane);
    var totals: array<Partial, COLUMNS>;
    collect(lane_walk, &totals);
    for (var j = 0u; j < COLUMNS; j++) {
        let total = block_reduce(lane, totals[j]);
        if lane < WIDTH && has_values(lane_walk, j) {
            store_partial(lane_walk, j, total);
        }
    }
}
