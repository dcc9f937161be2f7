// Forward in one dispatch: a workgroup collects the moments of its unit, then reads it again, from
// cache where it fits, to normalize it.

#import collect
#import block_reduce
#import settle
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
    var total = block_reduce(lane, collect(lane_walk), params.geometry.width);
    if UNIT_IS_CHANNEL {
        total = fold(total);
    }
    let unit_channels = channels(lane_walk);
    let statistics = statistics_of(total);
    if lane < params.geometry.width {
        if UNIT_IS_CHANNEL {
            settle(lane_walk.unit, total, statistics, 0u);
        } else if has_values(lane_walk) {
            for (var c = 0u; c < 4u; c++) {
                settle(unit_channels[c], total, statistics, c);
            }
        }
    }
    let own = coefficients(unit_channels, statistics);
    // The plan takes this kernel only where no vector meets two channels.
    apply(lane_walk, own, own);
}
