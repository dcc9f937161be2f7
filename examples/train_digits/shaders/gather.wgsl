// Copies the batch's images out of the data set, which stays on the GPU.

override pixels: u32; // of an image

@group(0) @binding(0) var<storage, read> images: array<f32>; // [image][pixels]
@group(0) @binding(1) var<storage, read> indices: array<u32>; // of the batch's images
@group(0) @binding(2) var<storage, read_write> batch: array<f32>; // [image][pixels]

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    let i = id.x;
    if i >= arrayLength(&batch) {
        return;
    }
    batch[i] = images[indices[i / pixels] * pixels + i % pixels];
}
