// Backward in one dispatch: a workgroup sums over its unit, then reads it again, from cache where it
// fits, for dx.

#import backward_collect
#import block_reduce
#import backward_settle
#import backward_apply
#import known_statistics

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(3) var<storage, read> statistics: array<f32>;
@group(0) @binding(4) var<storage, read> affine: array<f32>;
@group(0) @binding(5) var<storage, read_write> grads: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn backward_reread(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let lane_walk = walk(work, lane);
    let unit_channels = channels(lane_walk);
    let known = backward_coefficients(unit_channels, known_statistics(unit_channels));
    var total = block_reduce(lane, collect_backward(lane_walk, known), params.geometry.width);
    if UNIT_IS_CHANNEL {
        total = fold(total);
    }
    if lane < params.geometry.width {
        if UNIT_IS_CHANNEL {
            settle_backward(lane_walk.unit, total, 0u);
        } else if has_values(lane_walk) {
            for (var c = 0u; c < 4u; c++) {
                settle_backward(unit_channels[c], total, c);
            }
        }
    }
    let own = coupled(known, total.dy * params.inverse_count, total.x_hat_dy * params.inverse_count);
    // The plan takes this kernel only where no vector meets two channels.
    apply_backward(lane_walk, own, own);
}
