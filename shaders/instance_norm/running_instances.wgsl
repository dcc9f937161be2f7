// Leaves the moments of each instance to what averages them: the rows [mean: M] [mean_low: M] [m2: M] [count: M] for M
// statistics. Running statistics are f32, so that a mean needs no second row; it is zero.

#import params
#bind write moments: array<f32>

fn move_running(index: u32, mean: f32, m2: f32, count: f32) {
    let instances = params.geometry.statistics;
    moments[index] = mean;
    moments[instances + index] = 0.0;
    moments[2u * instances + index] = m2;
    moments[3u * instances + index] = count;
}
