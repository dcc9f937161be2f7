// Forward in one dispatch: a workgroup collects the moments of its unit, then reads it again, from
// cache where it fits, to normalize it.

#import collect
#import block_reduce
#import settle_unit
#import apply

@group(0) @binding(3) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read_write> running: array<u32>;
@group(0) @binding(6) var<storage, read_write> saved: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn forward_reread(
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
    var own: array<Coefficients, COLUMNS>;
    collect(lane_walk, &totals);
    for (var j = 0u; j < COLUMNS; j++) {
        let total = block_reduce(lane, totals[j]);
        own[j] = settle_unit(lane_walk, lane, j, total);
    }
    // The plan takes this kernel only where no vector meets two channels.
    apply(lane_walk, &own, own[0]);
}
