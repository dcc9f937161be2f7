// y = relu(normalized + residual)

#import relu
#import element

@group(0) @binding(2) var<storage, read> residual: array<StorageVector>;

fn finish(vector: u32, normalized: vec4<f32>) -> vec4<f32> {
    return relu(normalized + decode(residual[vector]));
}
