// y over x: each vector is read and written by one invocation.

#import element

@group(0) @binding(1) var<storage, read_write> x: array<StorageVector>;

fn store_y(vector: u32, values: vec4<f32>) {
    x[vector] = encode(values);
}
