// dx over dy: each vector is read and written by one invocation.

#import element

@group(0) @binding(2) var<storage, read_write> dy: array<StorageVector>;

fn dy_at(vector: u32) -> vec4<f32> {
    return decode(dy[vector]);
}

fn store_dx(vector: u32, values: vec4<f32>) {
    dy[vector] = encode(values);
}
