// x, and y in memory of its own.

#import element

@group(0) @binding(1) var<storage, read> x: array<StorageVector>;
@group(0) @binding(4) var<storage, read_write> y: array<StorageVector>;

fn store_y(vector: u32, values: vec4<f32>) {
    y[vector] = encode(values);
}
