// x_hat = (x - mean) / sqrt(variance + eps).

#import params

struct Statistics {
    // The mean as the sum of two f32: the nearest one, and what rounding left out.
    mean: vec4<f32>,
    mean_low: vec4<f32>,
    inv_std: vec4<f32>,
}

// The mean is subtracted first: x * scale + shift would cancel if |mean| is far above the deviation.
fn standardize(x: vec4<f32>, statistics: Statistics) -> vec4<f32> {
    return ((x - statistics.mean) - statistics.mean_low) * statistics.inv_std;
}

fn inverse_std(variance: vec4<f32>) -> vec4<f32> {
    let sum = variance + params.settings.eps;
    // As in torch with a batch's statistics: if variance and eps are both zero, nothing is scaled up.
    let zero = sum == vec4(0.0);
    let positive = select(sum, vec4(1.0), zero);
    let estimate = inverseSqrt(positive);
    // WGSL allows inverseSqrt an error of 2 ulp; one step of Newton's method takes most of it away.
    let inv_std = estimate * (1.5 - 0.5 * (positive * estimate) * estimate);
    return select(inv_std, vec4(0.0), zero);
}
