// The yardstick: a copy in vectors of 16 bytes, SHARE of them to each invocation. And a ReLU of the same make,
// to follow where nothing is fused. One of the library's files for f32 stands before this one, and says in which
// words memory is addressed.

override WORKGROUP: u32 = 64;
override SHARE: u32 = 1;

@group(0) @binding(0) var<storage, read_write> destination: array<StorageVector>;
@group(0) @binding(1) var<storage, read> source: array<StorageVector>;

struct Share {
    begin: u32,
    end: u32,
}

fn share(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> Share {
    let begin = (group.x + group.y * groups.x) * WORKGROUP * SHARE + lane;
    return Share(begin, min(begin + WORKGROUP * SHARE, arrayLength(&destination)));
}

@compute @workgroup_size(WORKGROUP)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let mine = share(group, groups, lane);
    for (var i = mine.begin; i < mine.end; i += WORKGROUP) {
        destination[i] = source[i];
    }
}

@compute @workgroup_size(WORKGROUP)
fn relu(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let mine = share(group, groups, lane);
    for (var i = mine.begin; i < mine.end; i += WORKGROUP) {
        destination[i] = encode(max(decode(destination[i]), vec4(0.0)));
    }
}
