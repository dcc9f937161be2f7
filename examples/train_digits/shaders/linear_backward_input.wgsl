// The gradient of linear_forward with respect to x. One invocation computes four inputs of one
// image.

override inputs: u32; // in fours
override outputs: u32;

@group(0) @binding(0) var<storage, read> dy: array<f32>; // [image][outputs]
@group(0) @binding(1) var<storage, read> weight: array<vec4f>; // [outputs][inputs]
@group(0) @binding(2) var<storage, read_write> dx: array<vec4f>; // [image][inputs]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&dx) {
        return;
    }
    let input = id.x % inputs;
    let image = id.x / inputs;
    var sum = vec4f();
    for (var output = 0u; output < outputs; output++) {
        sum += dy[image * outputs + output] * weight[output * inputs + input];
    }
    dx[id.x] = sum;
}
