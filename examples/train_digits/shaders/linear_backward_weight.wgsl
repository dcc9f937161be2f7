// The gradient of linear_forward with respect to its weight: a sum over the images. One invocation
// computes the weights from four inputs to one output.

override inputs: u32; // in fours
override outputs: u32;

@group(0) @binding(0) var<storage, read> x: array<vec4f>; // [image][inputs]
@group(0) @binding(1) var<storage, read> dy: array<f32>; // [image][outputs]
@group(0) @binding(2) var<storage, read_write> dweight: array<vec4f>; // [outputs][inputs]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&dweight) {
        return;
    }
    let input = id.x % inputs;
    let output = id.x / inputs;
    var sum = vec4f();
    for (var image = 0u; image < arrayLength(&dy) / outputs; image++) {
        sum += dy[image * outputs + output] * x[image * inputs + input];
    }
    dweight[id.x] = sum;
}
