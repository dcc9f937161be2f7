// The gradient with respect to a bias: the sum of dy over all positions. One invocation computes one
// channel.

@group(0) @binding(0) var<storage, read> dy: array<f32>; // [position][channels]
@group(0) @binding(1) var<storage, read_write> dbias: array<f32>; // [channels]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let channels = arrayLength(&dbias);
    if id.x >= channels {
        return;
    }
    var sum = 0.0;
    for (var i = id.x; i < arrayLength(&dy); i += channels) {
        sum += dy[i];
    }
    dbias[id.x] = sum;
}
