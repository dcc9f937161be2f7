// dx over dy: one lane reads and writes each vector.

#import element
#import dadded
#bind write dy: array<StorageVector>

fn store_dx(vector: u32, values: vec4<f32>) {
    dy[vector] = encode(with_dadded(vector, values));
}
