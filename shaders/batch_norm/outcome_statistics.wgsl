// What a channel's moments become: saved and running statistics.

#import settle

@group(0) @binding(2) var<storage, read_write> running: array<u32>;
@group(0) @binding(3) var<storage, read_write> saved: array<f32>;

fn conclude(channel: u32, total: Partial) {
    // No values have no statistics, and leave the running ones alone.
    if total.count.x > 0.0 {
        settle(channel, total, statistics_of(total), 0u);
    }
}
