// A fully connected layer. One invocation computes one output of one image.

override inputs: u32; // in fours
override outputs: u32;

@group(0) @binding(0) var<storage, read> x: array<vec4f>; // [image][inputs]
@group(0) @binding(1) var<storage, read> weight: array<vec4f>; // [outputs][inputs]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [outputs]
@group(0) @binding(3) var<storage, read_write> y: array<f32>; // [image][outputs]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&y) {
        return;
    }
    let output = id.x % outputs;
    let image = id.x / outputs;
    var sum = bias[output];
    for (var input = 0u; input < inputs; input++) {
        sum += dot(x[image * inputs + input], weight[output * inputs + input]);
    }
    y[id.x] = sum;
}
