// Reads every vector of the storage type, stores every vector of f32, and rounds it as if it were stored.

#import element
#bind read stored: array<StorageVector>
#bind read values: array<vec4<u32>>
#bind write decoded: array<vec4<u32>>
#bind write encoded: array<StorageVector>
#bind write rounded: array<vec4<u32>>

@compute @workgroup_size(64)
fn convert(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < arrayLength(&stored) {
        decoded[id.x] = bitcast<vec4<u32>>(decode(stored[id.x]));
    }
    if id.x < arrayLength(&values) {
        let value = bitcast<vec4<f32>>(values[id.x]);
        encoded[id.x] = encode(value);
        rounded[id.x] = bitcast<vec4<u32>>(decode(encode(value)));
    }
}
