// What a channel's sums become: the gradients of weight and bias. The kernel binds `grads`, the rows
// [dweight: C] [dbias: C] of which either may be missing.

#import params
#import monoid

// What the caller has gathered so far, if this is to be added to it.
fn accumulated(at: u32) -> f32 {
    if has(ACCUMULATE) {
        return grads[at];
    }
    return 0.0;
}

// Writes the gradients of one channel, component `c` of the total. One invocation does it.
fn settle_backward(channel: u32, total: Partial, c: u32) {
    if !has(PARAMETERS) {
        return;
    }
    if has(HAS_WEIGHT) {
        grads[channel] = accumulated(channel) + total.x_hat_dy[c];
    }
    if has(HAS_BIAS) {
        let at = channel + select(0u, params.geometry.channels, has(HAS_WEIGHT));
        grads[at] = accumulated(at) + total.dy[c];
    }
}
