// dx in memory of its own.

#import element
#import dadded
#bind write dx: array<StorageVector>

fn store_dx(vector: u32, values: vec4<f32>) {
    dx[vector] = encode(with_dadded(vector, values));
}
