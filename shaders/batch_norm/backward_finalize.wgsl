// Backward, split: combines each channel's partials into the gradients of weight and bias, and leaves
// the means that dx needs at the head of scratch memory, the rows [mean_dy: C] [mean_x_hat_dy: C].

#import gather_partials
#import block_reduce
#import backward_settle

@group(0) @binding(1) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(2) var<storage, read_write> grads: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn backward_finalize(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let width = params.geometry.width;
    let channel = work * width + lane % width;
    var mine = identity();
    if channel < params.geometry.channels {
        mine = gather_partials(channel, lane / width, WORKGROUP / width);
    }
    let total = fold(block_reduce(lane, mine, width));
    if lane < width && channel < params.geometry.channels {
        settle_backward(channel, total, 0u);
        scratch[channel] = total.dy.x * params.inverse_count;
        scratch[params.geometry.channels + channel] = total.x_hat_dy.x * params.inverse_count;
    }
}
