// dy where ReLU let the value pass, which x and its coefficients tell: nothing more is read.

#import coefficients
#import gradients
#import relu

fn incoming(at: Place, x: vec4<f32>, c: Coefficients) -> vec4<f32> {
    return select(vec4(0.0), dy_at(at.vector), passes(normalized(x, c)));
}
