// The gradient of the output.

#import element
#bind read dy: array<StorageVector>

fn incoming(vector: u32) -> vec4<f32> {
    return decode(dy[vector]);
}
