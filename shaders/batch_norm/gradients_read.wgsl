// dy, for a pass that writes no dx.

#import element

@group(0) @binding(2) var<storage, read> dy: array<StorageVector>;

fn dy_at(vector: u32) -> vec4<f32> {
    return decode(dy[vector]);
}
