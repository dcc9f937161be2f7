// The numbers of a norm without running statistics.

struct Settings {
    // Added to the variance, inside the root.
    eps: f32,
}
