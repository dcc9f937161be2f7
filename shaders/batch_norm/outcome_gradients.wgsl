// What a channel's sums become: the gradients of weight and bias, and at the head of scratch memory the means that
// dx needs, the rows [mean_g: C] [mean_x_hat_g: C].

#import backward_settle

@group(0) @binding(2) var<storage, read_write> grads: array<f32>;

fn conclude(channel: u32, total: Partial) {
    settle_backward(channel, total, 0u);
    scratch[channel] = total.dy.x * params.inverse_count;
    scratch[params.geometry.channels + channel] = total.x_hat_dy.x * params.inverse_count;
}
