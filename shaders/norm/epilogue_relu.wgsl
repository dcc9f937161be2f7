// y = relu(normalized)

#import relu

fn finish(vector: u32, normalized: vec4<f32>) -> vec4<f32> {
    return relu(normalized);
}
