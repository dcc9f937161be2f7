// Adds a bias to each channel: what a convolution has in place of BatchNorm.

override channels: u32;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [position][channels]
@group(0) @binding(1) var<storage, read> bias: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let i = id.x;
    if i >= arrayLength(&y) {
        return;
    }
    y[i] = x[i] + bias[i % channels];
}
