// Stochastic gradient descent with momentum, as torch.optim.SGD writes it.

override learning_rate: f32;
override momentum: f32;

@group(0) @binding(0) var<storage, read> gradient: array<f32>;
@group(0) @binding(1) var<storage, read_write> velocity: array<f32>;
@group(0) @binding(2) var<storage, read_write> value: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let i = id.x;
    if i >= arrayLength(&value) {
        return;
    }
    velocity[i] = momentum * velocity[i] + gradient[i];
    value[i] -= learning_rate * velocity[i];
}
