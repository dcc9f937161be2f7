// The numbers of a BatchNorm.

struct Settings {
    // Added to the variance, inside the root.
    eps: f32,
    // The share of a new batch in the running statistics.
    momentum: f32,
}
