// x_hat = (x - mean) / sqrt(variance + eps).

#import params
#import settle

// Whether the mean is taken off. If not, the variance is the mean of the squares, and the mean is zero.
override CENTERED: bool = true;

struct Statistics {
    // The mean as the sum of two f32: one near it, from which values subtract without rounding, and the rest.
    mean: vec4<f32>,
    mean_low: vec4<f32>,
    inv_std: vec4<f32>,
}

// The mean is subtracted first: x * scale + shift would cancel if |mean| is far above the deviation.
fn standardize(x: vec4<f32>, statistics: Statistics) -> vec4<f32> {
    return ((x - statistics.mean) - statistics.mean_low) * statistics.inv_std;
}

// x_hat but for the rest of the mean, mean_low * inv_std. Sums take that off at the end: rounded term by term, it would
// move all terms of a sum alike.
fn nearly_standardized(x: vec4<f32>, statistics: Statistics) -> vec4<f32> {
    return (x - statistics.mean) * statistics.inv_std;
}

fn inverse_std(variance: vec4<f32>) -> vec4<f32> {
    let sum = variance + params.settings.eps;
    // As in torch with a batch's statistics: if variance and eps are both zero, nothing is scaled up. A variance beyond
    // f32 scales everything to zero; Newton's method would multiply zero by infinity.
    let nothing = (sum == vec4(0.0)) | infinite(sum);
    let positive = select(sum, vec4(1.0), nothing);
    let estimate = inverseSqrt(positive);
    // WGSL allows inverseSqrt an error of 2 ulp; one step of Newton's method takes most of it away.
    let inv_std = estimate * (1.5 - 0.5 * (positive * estimate) * estimate);
    return select(inv_std, vec4(0.0), nothing);
}
