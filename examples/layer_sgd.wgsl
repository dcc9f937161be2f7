// A step of gradient descent. The library packs weight and bias into one buffer, and their gradients into another with the
// same rows, so that one kernel serves all.

@group(0) @binding(0) var<storage, read_write> parameters: array<f32>;
@group(0) @binding(1) var<storage, read> gradients: array<f32>;

@compute @workgroup_size(64)
fn sgd(@builtin(global_invocation_id) id: vec3u) {
    if id.x < arrayLength(&parameters) {
        parameters[id.x] -= 0.2 * gradients[id.x];
    }
}
