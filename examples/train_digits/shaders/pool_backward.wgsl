// The gradient of pool_forward: dy goes to the value that became y, the first of several equal ones,
// unless this kernel's ReLU cut it off. One invocation fills the four positions of one window, for four channels.

override size: u32; // height and width of y
override channels: u32; // in fours
override relu: bool;

@group(0) @binding(0) var<storage, read> x: array<Stored>; // [image][2 size][2 size][channels]
@group(0) @binding(1) var<storage, read> y: array<vec4f>; // [image][size][size][channels]
@group(0) @binding(2) var<storage, read> dy: array<vec4f>; // like y
@group(0) @binding(3) var<storage, read_write> dx: array<Stored>; // like x

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&y) {
        return;
    }
    let channel = id.x % channels;
    let position = id.x / channels;
    let column = position % size;
    let row = position / size; // of all images

    let largest = y[id.x];
    var left = select(vec4f(), dy[id.x], (largest > vec4f()) | vec4<bool>(!relu)); // the gradient not yet handed out
    for (var i = 0u; i < 4; i++) {
        let pixel = (2 * row + i / 2) * 2 * size + 2 * column + i % 2;
        let at = pixel * channels + channel;
        let chosen = load(x[at]) == largest;
        dx[at] = store(select(vec4f(), left, chosen));
        left = select(left, vec4f(), chosen);
    }
}
