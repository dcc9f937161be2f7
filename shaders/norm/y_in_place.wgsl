// y over x: one lane reads and writes each vector.

#import element
#bind write x: array<StorageVector>

fn store_y(vector: u32, values: vec4<f32>) {
    x[vector] = encode(values);
}
