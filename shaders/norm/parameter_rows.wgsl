// The rows of weight and bias, and of their gradients: [weight: P] [bias: P] for P parameters, of which either may be
// missing.

#import params

override HAS_WEIGHT: bool = true;
override HAS_BIAS: bool = true;

// Where the row of the bias begins.
fn bias_row() -> u32 {
    return select(0u, params.geometry.parameters, HAS_WEIGHT);
}
