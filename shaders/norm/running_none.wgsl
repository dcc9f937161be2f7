// Nothing keeps running statistics.

fn move_running(index: u32, mean: f32, unbiased_variance: f32) {}
