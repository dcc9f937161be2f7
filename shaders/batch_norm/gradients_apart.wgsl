// dy, and dx in memory of its own.

#import element

@group(0) @binding(2) var<storage, read> dy: array<StorageVector>;
@group(0) @binding(6) var<storage, read_write> dx: array<StorageVector>;

fn dy_at(vector: u32) -> vec4<f32> {
    return decode(dy[vector]);
}

fn store_dx(vector: u32, values: vec4<f32>) {
    dx[vector] = encode(values);
}
