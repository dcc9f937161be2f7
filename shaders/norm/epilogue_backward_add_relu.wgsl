// The gradient of the output where ReLU let the sum pass, which the output tells. It is the residual's gradient, too,
// and is written there for the pass that follows.

#import coefficients
#import layout
#import element
#import incoming
#import relu
#bind read output: array<StorageVector>
#bind write dresidual: array<StorageVector>

fn epilogue_backward(at: Place, x: vec4<f32>, c: Coefficients) -> vec4<f32> {
    let gradient = select(vec4(0.0), incoming(at.vector), passes(decode(output[at.vector])));
    if at.owned {
        dresidual[at.vector] = encode(gradient);
    }
    return gradient;
}
