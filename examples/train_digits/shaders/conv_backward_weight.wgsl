// The gradient of conv_forward with respect to its weight: a sum over all positions of all images.
// One invocation computes one tap from one input channel to four output channels.

override size: u32; // height and width
override inputs: u32; // channels of x
override outputs: u32; // channels of y, in fours

@group(0) @binding(0) var<storage, read> x: array<f32>; // [image][row][column][inputs]
@group(0) @binding(1) var<storage, read> dy: array<Stored>; // [image][row][column][outputs]
@group(0) @binding(2) var<storage, read_write> dweight: array<vec4f>; // [3][3][inputs][outputs]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    if id.x >= arrayLength(&dweight) {
        return;
    }
    let output = id.x % outputs;
    let input = id.x / outputs % inputs;
    let tap = id.x / outputs / inputs;
    let ky = tap / 3;
    let kx = tap % 3;

    var sum = vec4f();
    let rows = arrayLength(&dy) / outputs / size; // of all images
    for (var row = 0u; row < rows; row++) {
        // Above the first row this wraps to a large number: one comparison for both borders.
        if row % size + ky - 1 >= size {
            continue;
        }
        for (var column = 0u; column < size; column++) {
            if column + kx - 1 >= size {
                continue;
            }
            let position = row * size + column;
            let pixel = position + ky * size + kx - size - 1;
            sum += x[pixel * inputs + input] * load(dy[position * outputs + output]);
        }
    }
    dweight[id.x] = sum;
}
