// The statistics of a batch, which an earlier pass saved in the rows [mean: M] [inv_std: M] [mean_low: M] for M
// statistics.

#import standardize
#import layout
#bind read saved: array<f32>

// Mean and variance depend on x.
const FROZEN = false;

fn saved_row(row: u32, index: vec4<u32>) -> vec4<f32> {
    let at = index + row * params.geometry.statistics;
    if COMPONENTS_SHARE {
        return vec4(saved[at.x]);
    }
    return vec4(saved[at.x], saved[at.y], saved[at.z], saved[at.w]);
}

fn stored_statistics(index: vec4<u32>) -> Statistics {
    return Statistics(saved_row(0u, index), saved_row(2u, index), saved_row(1u, index));
}
