// 3×3 convolution with a border of zeros. One invocation computes four output channels of one
// position.

override size: u32; // height and width
override inputs: u32; // channels of x
override outputs: u32; // channels of y, in fours

@group(0) @binding(0) var<storage, read> x: array<f32>; // [image][row][column][inputs]
@group(0) @binding(1) var<storage, read> weight: array<vec4f>; // [3][3][inputs][outputs]
@group(0) @binding(2) var<storage, read_write> y: array<Stored>; // [image][row][column][outputs]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&y) {
        return;
    }
    let output = id.x % outputs;
    let position = id.x / outputs;
    let column = position % size;
    let row = position / size % size;

    var sum = vec4f();
    for (var ky = 0u; ky < 3; ky++) {
        // Above the first row this wraps to a large number: one comparison for both borders.
        if row + ky - 1 >= size {
            continue;
        }
        for (var kx = 0u; kx < 3; kx++) {
            if column + kx - 1 >= size {
                continue;
            }
            let pixel = (position + ky * size + kx - size - 1) * inputs;
            let tap = (ky * 3 + kx) * inputs;
            for (var input = 0u; input < inputs; input++) {
                sum += x[pixel + input] * weight[(tap + input) * outputs + output];
            }
        }
    }
    y[id.x] = store(sum);
}
