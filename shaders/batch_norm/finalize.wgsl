// Combines the parts of each channel's moments, WIDTH channels a workgroup.

#import parts
#import block_reduce
#import outcome

@compute @workgroup_size(WORKGROUP)
fn finalize(
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
        mine = gather(channel, lane / WIDTH, WORKGROUP / WIDTH);
    }
    let total = block_reduce(lane, mine);
    if lane < WIDTH && channel < params.geometry.channels {
        conclude(channel, total);
    }
}
