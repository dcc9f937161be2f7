// What a channel's sums become: the gradients of weight and bias. The kernel binds `grads`, the rows
// [dweight: C] [dbias: C] of which either may be missing.

#import params
#import monoid

// Writes the gradients of one channel, component `c` of the total. One invocation does it.
fn settle_backward(channel: u32, total: Partial, c: u32) {
    if has(HAS_WEIGHT) {
        grads[channel] = total.x_hat_dy[c];
    }
    if has(HAS_BIAS) {
        grads[channel + select(0u, params.geometry.channels, has(HAS_WEIGHT))] = total.dy[c];
    }
}
