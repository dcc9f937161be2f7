//! Numeric gradients and comparisons, for the tests of the oracles.

use super::compare::{Bound, within};

/// The slope of `loss` along each coordinate of `at`, by central differences.
pub fn slopes(at: &[f64], loss: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let h = 1e-5;
    let slope = |i: usize| {
        let moved = |by: f64| {
            let mut at = at.to_vec();
            at[i] += by;
            loss(&at)
        };
        (moved(h) - moved(-h)) / (2.0 * h)
    };
    (0..at.len()).map(slope).collect()
}

/// The loss whose gradient with respect to `y` is `dy`.
pub fn dot(y: &[f64], dy: &[f64]) -> f64 {
    y.iter().zip(dy).map(|(y, dy)| y * dy).sum()
}

/// Fails where an error is above `absolute`.
pub fn close(name: &str, actual: &[f64], expected: &[f64], absolute: f64) {
    within(name, actual, expected, Bound::new(0.0, absolute)).unwrap();
}
