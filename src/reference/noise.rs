//! The generator of test values.

/// `count` values in [-1, 1), multiples of 2^-23, which f32 represents exactly. They depend on `seed` only: a linear
/// congruential generator (Knuth's MMIX), of which each value takes the upper 24 bits.
///
/// ```
/// use wgpu_norm::reference::noise;
/// let x: Vec<f32> = noise(1, 3).map(|v| v as f32).collect();
/// assert_eq!(x, [-0.649080515, 0.332045197, 0.404436111]);
/// ```
pub fn noise(seed: u64, count: usize) -> impl Iterator<Item = f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from((state >> 40) as u32) / f64::from(1 << 23) - 1.0
    })
    .take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_f32_values_around_zero() {
        for seed in [0, 1, 2, u64::MAX] {
            let values: Vec<f64> = noise(seed, 4096).collect();
            assert_eq!(values.len(), 4096);
            for &value in &values {
                assert!((-1.0..1.0).contains(&value), "{value}");
                assert_eq!(f64::from(value as f32), value);
            }
            // The mean of 4096 uniform values deviates by 0.009, their mean square by 0.005.
            let mean = values.iter().sum::<f64>() / 4096.0;
            let square = values.iter().map(|v| v * v).sum::<f64>() / 4096.0;
            assert!(mean.abs() < 0.04, "seed {seed}: mean {mean}");
            assert!((square - 1.0 / 3.0).abs() < 0.02, "seed {seed}: {square}");
        }
    }

    #[test]
    fn the_values_of_a_seed_never_change() {
        // Recorded results depend on them.
        let first = |seed| -> Vec<f64> { noise(seed, 2).map(|v| v * 8_388_608.0).collect() };
        assert_eq!(first(0), [-1_288_337.0, 157_830.0]);
        assert_eq!(first(7), [4_344_733.0, -7_516_768.0]);
    }
}
