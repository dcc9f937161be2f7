// Moves the running statistics: the rows [running_mean: C] [running_var: C] of f32 and [num_batches_tracked: C] of u32.
//
// Each channel has its own counter, so that no workgroup waits for another one to have counted.

#import params
#bind write running: array<u32>

// Whether each batch has the same weight, by the counter, and not the momentum of the settings.
override CUMULATIVE: bool = false;

fn move_running(channel: u32, mean: f32, unbiased_variance: f32) {
    let channels = params.geometry.statistics;
    // The counter stays at its largest value. Back at zero, it would weigh the next batch as the first one.
    let batches = min(running[2u * channels + channel], 0xfffffffeu) + 1u;
    running[2u * channels + channel] = batches;
    let momentum = select(params.settings.momentum, 1.0 / f32(batches), CUMULATIVE);
    let old_mean = bitcast<f32>(running[channel]);
    let old_var = bitcast<f32>(running[channels + channel]);
    running[channel] = bitcast<u32>((1.0 - momentum) * old_mean + momentum * mean);
    running[channels + channel] = bitcast<u32>((1.0 - momentum) * old_var + momentum * unbiased_variance);
}
