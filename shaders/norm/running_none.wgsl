// Nothing keeps running statistics.

fn move_running(index: u32, mean: f32, m2: f32, count: f32) {}
