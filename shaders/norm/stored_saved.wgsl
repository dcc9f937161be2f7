// The statistics that an earlier pass saved, in the rows [mean: M] [inv_std: M] [mean_low: M] for M statistics.

#import standardize
#import layout
#import grouped
#bind read saved: array<f32>

// Mean and variance depend on x.
const FROZEN = false;

fn saved_row(row: u32, index: vec4<u32>) -> vec4<f32> {
    let at = index + row * params.geometry.saved_statistics;
    if STATISTICS_SHARE {
        return vec4(saved[at.x]);
    }
    return vec4(saved[at.x], saved[at.y], saved[at.z], saved[at.w]);
}

fn stored_statistics(tensor_index: vec4<u32>) -> Statistics {
    let index = saved_index(tensor_index);
    return Statistics(saved_row(0u, index), saved_row(2u, index), saved_row(1u, index));
}
