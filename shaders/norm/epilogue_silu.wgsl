// y = normalized * sigmoid(normalized)

#import silu

fn finish(vector: u32, normalized: vec4<f32>) -> vec4<f32> {
    return normalized * sigmoid(normalized);
}
