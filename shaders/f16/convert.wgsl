// Reads every vector of the storage type, and stores every vector of f32.

#import element
#bind read stored: array<StorageVector>
#bind read values: array<vec4<u32>>
#bind write decoded: array<vec4<u32>>
#bind write encoded: array<StorageVector>

@compute @workgroup_size(64)
fn convert(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&stored) {
        decoded[id.x] = bitcast<vec4<u32>>(decode(stored[id.x]));
    }
    if id.x < arrayLength(&values) {
        encoded[id.x] = encode(bitcast<vec4<f32>>(values[id.x]));
    }
}
