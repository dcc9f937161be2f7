//! The only comparer. Everything that is claimed to be equal has passed here.

/// How far a value may be from what is expected: `absolute + relative * |expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// In units of the expected value.
    pub relative: f64,
    /// In units of the values themselves.
    pub absolute: f64,
}

impl Bound {
    /// No difference at all.
    pub const EXACT: Self = Self::new(0.0, 0.0);

    /// A bound of both kinds.
    pub const fn new(relative: f64, absolute: f64) -> Self {
        Self { relative, absolute }
    }

    fn around(self, expected: f64) -> f64 {
        self.absolute + self.relative * expected.abs()
    }
}

/// The value that came closest to its bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// Where it stands.
    pub index: usize,
    /// How far it is off.
    pub error: f64,
    /// That distance in units of the bound, at most 1; 0 where there is no difference.
    pub ratio: f64,
}

/// Values that are not what is expected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Mismatch {
    /// There are more or fewer of them.
    #[error("{name}: expected {expected} values, got {actual}")]
    Length {
        /// What was compared.
        name: String,
        /// How many there are.
        actual: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Some are too far off.
    #[error(
        "{name}[{index}]: expected {expected:e}, got {actual:e}, off by {error:e} where {bound:e} is \
         allowed; {count} of {len} values differ"
    )]
    Value {
        /// What was compared.
        name: String,
        /// Where the first of them stands.
        index: usize,
        /// What stands there.
        actual: f64,
        /// What should.
        expected: f64,
        /// The distance.
        error: f64,
        /// The distance allowed.
        bound: f64,
        /// How many values differ.
        count: usize,
        /// How many values there are.
        len: usize,
    },
}

/// Compares values with those expected. A NaN passes only where a NaN is expected, an infinity only where
/// the same one is.
///
/// # Errors
/// [`Mismatch`], with the first value that is too far off.
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
        // Not `error > allowed`, which a NaN would pass; nor is anything close to an infinity.
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
    fn what_is_close_passes_and_the_worst_is_told() {
        let worst = within("test", &[1.0f32, 100.05, 0.0], &[1.0, 100.0, 5e-7], CLOSE).unwrap();
        assert_eq!(worst.index, 1);
        assert!((0.4..0.6).contains(&worst.ratio), "{worst:?}");
        assert!(within("test", &[1.5, -0.0], &[1.5, 0.0], Bound::EXACT).is_ok());
    }

    #[test]
    fn what_is_off_does_not_pass() {
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
