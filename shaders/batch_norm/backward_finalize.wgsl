// Combines each channel's partial sums, WIDTH channels a workgroup.

#import gather_partials
#import block_reduce
#import outcome

@group(0) @binding(1) var<storage, read_write> scratch: array<Entry>;

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
    let channel = work * WIDTH + lane % WIDTH;
    var mine = identity();
    if channel < params.geometry.channels {
        mine = gather_partials(channel, lane / WIDTH, WORKGROUP / WIDTH);
    }
    let total = block_reduce(lane, mine);
    if lane < WIDTH && channel < params.geometry.channels {
        conclude(channel, total);
    }
}
