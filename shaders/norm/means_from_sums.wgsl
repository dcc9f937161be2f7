// The means that dx needs, from the rows [sum x_hat_g: M] [sum g: M] [count: M] for M statistics.

#import params
#import layout
#import backward_coefficients
#bind read sums: array<f32>

// Whether running statistics stand in for those of a single value: they do not depend on it.
override SINGLE_VALUE_FROZEN: bool = false;

fn sums_row(row: u32, index: vec4<u32>) -> vec4<f32> {
    let at = index + row * params.geometry.statistics;
    if COMPONENTS_SHARE {
        return vec4(sums[at.x]);
    }
    return vec4(sums[at.x], sums[at.y], sums[at.z], sums[at.w]);
}

fn stored_means(index: vec4<u32>) -> Means {
    let count = max(sums_row(2u, index), vec4(1.0));
    let frozen = vec4(SINGLE_VALUE_FROZEN) & (count == vec4(1.0));
    return Means(
        select(sums_row(1u, index) / count, vec4(0.0), frozen),
        select(sums_row(0u, index) / count, vec4(0.0), frozen),
    );
}
