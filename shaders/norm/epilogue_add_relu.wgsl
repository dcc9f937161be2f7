// y = relu(normalized + residual)

#import relu
#import element
#bind read residual: array<StorageVector>

fn finish(vector: u32, normalized: vec4<f32>) -> vec4<f32> {
    return relu(normalized + decode(residual[vector]));
}
