// The workgroups of a dispatch. Each takes one chunk of one unit.

#import params

// Lanes in a workgroup: a power of two. A lane is one invocation.
override WORKGROUP: u32 = 64;

// Lanes across an item: a power of two.
override WIDTH: u32 = 1;

// Whether there is more than one outer group: a sample, or a group of samples, with statistics of its own.
override OUTER: bool = false;

// Grids above the limit of one dimension are folded into two.
fn linear_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}

// Whether there is work for a workgroup. A folded grid may have too many.
fn in_grid(work: u32) -> bool {
    let chunk = work / params.geometry.units;
    return params.geometry.item_begin + chunk * params.geometry.chunk < params.geometry.item_end;
}
