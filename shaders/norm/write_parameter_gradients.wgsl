// Writes the gradients of weight and bias.

#import parameter_rows
#import monoid
#bind write grads: array<f32>

// Whether the gradients are wanted, and whether they are added to what `grads` holds.
override PARAMETER_GRADIENTS: bool = true;
override ACCUMULATE: bool = false;

fn accumulated(at: u32) -> f32 {
    if ACCUMULATE {
        return grads[at];
    }
    return 0.0;
}

// Writes the gradients of one parameter: component `c` of the total. One lane does it.
fn write_parameter_gradients(index: u32, total: Partial, c: u32) {
    if !PARAMETER_GRADIENTS {
        return;
    }
    if HAS_WEIGHT {
        grads[index] = accumulated(index) + total.x_hat_g[c];
    }
    if HAS_BIAS {
        let at = index + bias_row();
        grads[at] = accumulated(at) + total.g[c];
    }
}
