// The yardstick: a copy in vectors of 16 bytes, SHARE of them to each invocation.

override WORKGROUP: u32 = 64;
override SHARE: u32 = 1;

@group(0) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> destination: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn copy(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let begin = (group.x + group.y * groups.x) * WORKGROUP * SHARE + lane;
    let end = min(begin + WORKGROUP * SHARE, arrayLength(&source));
    for (var i = begin; i < end; i += WORKGROUP) {
        destination[i] = source[i];
    }
}
