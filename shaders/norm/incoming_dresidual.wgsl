// The gradient of the residual, which an earlier pass has left: it is that of the normalized values, too.

#import element
#bind read dresidual: array<StorageVector>

fn incoming(vector: u32) -> vec4<f32> {
    return decode(dresidual[vector]);
}
