// dy where ReLU let the sum pass, which the output tells. It is the residual's gradient too, and is left there
// for the pass that follows.

#import coefficients
#import gradients
#import relu

@group(0) @binding(5) var<storage, read> output: array<StorageVector>;
@group(0) @binding(6) var<storage, read_write> dresidual: array<StorageVector>;

fn incoming(at: Place, x: vec4<f32>, c: Coefficients) -> vec4<f32> {
    let gradient = select(vec4(0.0), dy_at(at.vector), passes(decode(output[at.vector])));
    if at.owned {
        dresidual[at.vector] = encode(gradient);
    }
    return gradient;
}
