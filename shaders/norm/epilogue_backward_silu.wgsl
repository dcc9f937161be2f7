// The gradient of the output times the slope of SiLU. x and its coefficients tell the slope, so nothing else is read.

#import coefficients
#import layout
#import incoming
#import silu

fn epilogue_backward(at: Place, x: vec4<f32>, c: Coefficients) -> vec4<f32> {
    let value = normalized(x, c);
    let share = sigmoid(value);
    return incoming(at.vector) * (share * (1.0 + value * (1.0 - share)));
}
