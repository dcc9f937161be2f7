// The gradient of conv_forward with respect to x: what each dy hands back through the weight
// it came by. One invocation computes one channel of one position.

override size: u32; // height and width
override inputs: u32; // channels of x
override outputs: u32; // channels of y, in fours

@group(0) @binding(0) var<storage, read> dy: array<Stored>; // [image][row][column][outputs]
@group(0) @binding(1) var<storage, read> weight: array<vec4f>; // [3][3][inputs][outputs]
@group(0) @binding(2) var<storage, read_write> dx: array<f32>; // [image][row][column][inputs]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&dx) {
        return;
    }
    let input = id.x % inputs;
    let position = id.x / inputs;
    let column = position % size;
    let row = position / size % size;

    var sum = 0.0;
    for (var ky = 0u; ky < 3; ky++) {
        // Above the first row this wraps to a large number: one comparison for both borders.
        if row + 1 - ky >= size {
            continue;
        }
        for (var kx = 0u; kx < 3; kx++) {
            if column + 1 - kx >= size {
                continue;
            }
            let pixel = (position + size + 1 - ky * size - kx) * outputs;
            let tap = ((ky * 3 + kx) * inputs + input) * outputs;
            for (var output = 0u; output < outputs; output++) {
                sum += dot(load(dy[pixel + output]), weight[tap + output]);
            }
        }
    }
    dx[id.x] = sum;
}
