// dx over dy: one lane reads and writes each vector.

#import element
#bind write dy: array<StorageVector>

fn store_dx(vector: u32, values: vec4<f32>) {
    dy[vector] = encode(values);
}
