// Combines the partial results of each statistic, or parameter, and writes what they make. WIDTH of them a workgroup.

#import grid
#import combine
#import block_reduce
#import result

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
    let index = work * WIDTH + lane % WIDTH;
    var mine = identity();
    if index < result_count() {
        mine = combine_entries(index, lane / WIDTH, WORKGROUP / WIDTH);
    }
    let total = block_reduce(lane, mine);
    if lane < WIDTH && index < result_count() {
        write_result(index, total);
    }
}
