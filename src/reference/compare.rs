//! The comparer of arrays: tests, benchmarks and the tuner compare computed values with expected ones here.

/// The largest error allowed: `absolute + relative * |expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Bound {
    /// Error as a multiple of the expected value's magnitude.
    pub relative: f64,
    /// Error whatever the expected value.
    pub absolute: f64,
}

impl Bound {
    /// Zero error.
    pub const EXACT: Self = Self::new(0.0, 0.0);

    /// The sum of a relative and an absolute bound.
    pub const fn new(relative: f64, absolute: f64) -> Self {
        Self { relative, absolute }
    }

    fn around(self, expected: f64) -> f64 {
        self.absolute + self.relative * expected.abs()
    }
}

/// The value with the largest error relative to its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Worst {
    /// Its index.
    pub index: usize,
    /// Its absolute error.
    pub error: f64,
    /// The error divided by its bound, from 0 to 1.
    pub ratio: f64,
}

/// Values that differ from the expected ones.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The numbers of values differ.
    #[error("{name}: expected {expected} values, got {actual}")]
    Length {
        /// The name given to the comparison.
        name: String,
        /// The number of values.
        actual: usize,
        /// The number of expected values.
        expected: usize,
    },
    /// At least one error is above its bound.
    #[error(
        "{name}[{index}]: expected {expected:e}, got {actual:e}, off by {error:e} where {bound:e} is \
         allowed; {count} of {len} values differ"
    )]
    Value {
        /// The name given to the comparison.
        name: String,
        /// The index of the first such value.
        index: usize,
        /// The value.
        actual: f64,
        /// The expected value.
        expected: f64,
        /// Its absolute error.
        error: f64,
        /// The bound.
        bound: f64,
        /// The number of values with an error above their bound.
        count: usize,
        /// The number of values.
        len: usize,
    },
}

/// Compares `actual` with `expected`, value by value, and returns the worst value within the bound. NaN matches only
/// NaN, and an infinity only itself.
///
/// # Errors
/// [`Mismatch`] with `name` and the first value whose error is above the bound.
pub fn within<A: Copy + Into<f64>>(
    name: &str,
    actual: &[A],
    expected: &[f64],
    bound: Bound,
) -> Result<Worst, Mismatch> {
    if actual.len() != expected.len() {
        return Err(Mismatch::Length {
            name: name.to_owned(),
            actual: actual.len(),
            expected: expected.len(),
        });
    }
    let len = expected.len();
    let mut worst = Worst {
        index: 0,
        error: 0.0,
        ratio: 0.0,
    };
    let mut first = None;
    let mut count = 0;
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        let actual: f64 = actual.into();
        if actual == expected || (actual.is_nan() && expected.is_nan()) {
            continue;
        }
        let error = (actual - expected).abs();
        let allowed = bound.around(expected);
        // Not `error > allowed`, which is false for NaN. An infinite bound around an infinity would allow everything.
        if !(error <= allowed && expected.is_finite()) {
            count += 1;
            first = first.or(Some((index, actual, expected, error, allowed)));
        } else if error / allowed > worst.ratio {
            worst = Worst {
                index,
                error,
                ratio: error / allowed,
            };
        }
    }
    match first {
        None => Ok(worst),
        Some((index, actual, expected, error, bound)) => Err(Mismatch::Value {
            name: name.to_owned(),
            index,
            actual,
            expected,
            error,
            bound,
            count,
            len,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSE: Bound = Bound::new(1e-3, 1e-6);

    fn passes(actual: &[f64], expected: &[f64]) -> bool {
        within("test", actual, expected, CLOSE).is_ok()
    }

    #[test]
    fn values_within_the_bound_pass_and_the_worst_is_returned() {
        let worst = within("test", &[1.0f32, 100.05, 0.0], &[1.0, 100.0, 5e-7], CLOSE).unwrap();
        assert_eq!(worst.index, 1);
        assert!((0.4..0.6).contains(&worst.ratio), "{worst:?}");
        assert!(within("test", &[1.5, -0.0], &[1.5, 0.0], Bound::EXACT).is_ok());
    }

    #[test]
    fn values_beyond_the_bound_do_not_pass() {
        assert!(!passes(&[1.0, 2.003], &[1.0, 2.0]));
        assert!(within("test", &[1.0 + 1e-15], &[1.0], Bound::EXACT).is_err());
    }

    #[test]
    fn nan_and_infinity_pass_only_as_themselves() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for (actual, expected) in [
            (nan, 1.0),
            (1.0, nan),
            (inf, 1.0),
            (1.0, inf),
            (-inf, inf),
            (nan, inf),
        ] {
            assert!(!passes(&[actual], &[expected]), "{actual} for {expected}");
        }
        assert!(passes(&[nan, inf, -inf], &[nan, inf, -inf]));
    }

    #[test]
    fn a_bound_that_is_nan_lets_nothing_pass() {
        assert!(within("test", &[1.0], &[2.0], Bound::new(f64::NAN, 1.0)).is_err());
    }

    #[test]
    fn other_lengths_do_not_pass() {
        assert!(!passes(&[], &[1.0]));
        assert!(!passes(&[1.0, 1.0], &[1.0]));
        assert!(passes(&[], &[]));
    }

    #[test]
    fn a_mismatch_says_where_and_how_much() {
        let error = within("dx", &[1.0, 5.0, 7.0], &[1.0, 2.0, 3.0], Bound::EXACT).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("dx[1]: expected 2e0, got 5e0"),
            "{message}"
        );
        assert!(message.ends_with("2 of 3 values differ"), "{message}");
    }
}
