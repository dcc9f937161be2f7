// The means that dx needs, from the rows [sum x_hat_g: M] [sum g: M] [count: M] for M statistics.

#import params
#import layout
#import backward_coefficients
#bind read sums: array<f32>

fn sums_row(row: u32, index: vec4<u32>) -> vec4<f32> {
    let at = index + row * params.geometry.statistics;
    if COMPONENTS_SHARE {
        return vec4(sums[at.x]);
    }
    return vec4(sums[at.x], sums[at.y], sums[at.z], sums[at.w]);
}

fn stored_means(index: vec4<u32>) -> Means {
    let count = max(sums_row(2u, index), vec4(1.0));
    return Means(sums_row(1u, index) / count, sums_row(0u, index) / count);
}
