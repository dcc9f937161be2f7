// The running statistics, in the rows [running_mean: M] [running_var: M] for M statistics.

#import standardize
#import layout
#bind read running: array<f32>

// Mean and variance are constants.
const FROZEN = true;

fn running_row(row: u32, index: vec4<u32>) -> vec4<f32> {
    let at = index + row * params.geometry.statistics;
    if STATISTICS_SHARE {
        return vec4(running[at.x]);
    }
    return vec4(running[at.x], running[at.y], running[at.z], running[at.w]);
}

fn stored_statistics(index: vec4<u32>) -> Statistics {
    return Statistics(running_row(0u, index), vec4(0.0), inverse_std(running_row(1u, index)));
}
