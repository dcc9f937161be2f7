// y in memory of its own.

#import element
#bind write y: array<StorageVector>

fn store_y(vector: u32, values: vec4<f32>) {
    y[vector] = encode(values);
}
