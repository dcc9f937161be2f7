// What a channel's sums become: the gradients of weight and bias, and at the head of scratch memory the means that
// dx needs, an entry for each channel.

#import backward_settle

@group(0) @binding(2) var<storage, read_write> grads: array<f32>;

fn conclude(channel: u32, total: Partial) {
    settle_backward(channel, total, 0u);
    scratch[channel] = entries_of(total)[0] * params.inverse_count;
}
