// Adds the sums of the parts of a batch: rows of `statistics` floats, one set for each part, `part_stride` floats apart.
// One lane adds one float, in the order of the parts.

#import grid
#bind read parts: array<f32>
#bind write sums: array<f32>

@compute @workgroup_size(WORKGROUP)
fn add_sums(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let work = linear_group(group, groups);
    if !in_grid(work) {
        return;
    }
    let index = work * WORKGROUP + lane;
    if index >= 3u * params.geometry.statistics {
        return;
    }
    var total = 0.0;
    for (var part = 0u; part < params.reduction.parts; part++) {
        total += parts[part * params.reduction.part_stride + index];
    }
    sums[index] = total;
}
