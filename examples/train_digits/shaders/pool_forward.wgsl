// 2×2 max pooling: the largest of four values, or with ReLU 0 if none is positive.
// One invocation computes four channels of one position of y.

override size: u32; // height and width of y
override channels: u32; // in fours
override relu: bool; // not where BatchNorm has done it

@group(0) @binding(0) var<storage, read> x: array<Stored>; // [image][2 size][2 size][channels]
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>; // [image][size][size][channels]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&y) {
        return;
    }
    let channel = id.x % channels;
    let position = id.x / channels;
    let column = position % size;
    let row = position / size; // of all images

    let right = channels;
    let below = 2 * size * channels;
    let corner = (2 * row * 2 * size + 2 * column) * channels + channel;
    let largest = max(
        max(load(x[corner]), load(x[corner + right])),
        max(load(x[corner + below]), load(x[corner + below + right]))
    );
    y[id.x] = select(largest, max(largest, vec4f()), relu);
}
