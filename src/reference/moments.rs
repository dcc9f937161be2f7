//! Moments of a set of values, and their combination from the moments of its parts.

/// The moments of a set of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moments {
    /// The mean; 0 for an empty set.
    pub mean: f64,
    /// The sum of squared deviations from the mean.
    pub m2: f64,
    /// The number of values.
    pub count: f64,
}

impl Moments {
    /// The moments of an empty set.
    pub const IDENTITY: Self = Self {
        mean: 0.0,
        m2: 0.0,
        count: 0.0,
    };

    /// The moments of `values`, by two passes.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() {
            return Self::IDENTITY;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        Self {
            mean,
            m2: values.iter().map(|v| (v - mean) * (v - mean)).sum(),
            count,
        }
    }

    /// The moments of the union of two disjoint sets. Chan, Golub and LeVeque, *Updating formulae and a pairwise
    /// algorithm for computing sample variances*, 1979.
    pub fn combine(self, other: Self) -> Self {
        // Without a rounding where there is nothing to combine.
        if other.count == 0.0 {
            return self;
        }
        if self.count == 0.0 {
            return other;
        }
        let count = self.count + other.count;
        let (delta, share) = (other.mean - self.mean, other.count / count);
        Self {
            mean: self.mean + delta * share,
            m2: self.m2 + other.m2 + delta * delta * (self.count * share),
            count,
        }
    }

    /// The biased variance; NaN for an empty set.
    pub fn var(self) -> f64 {
        self.m2 / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::compare::{Bound, within};

    #[test]
    fn parts_combine_to_the_whole() {
        let values: Vec<f64> = (0..100).map(|i| 1e4 + f64::from(i * 37 % 101)).collect();
        let whole = Moments::of(values.iter().copied());
        for cut in [0, 1, 50, 99, 100] {
            let (a, b) = values.split_at(cut);
            let both = Moments::of(a.iter().copied()).combine(Moments::of(b.iter().copied()));
            let relative = |bound| Bound::new(bound, 0.0);
            within("mean", &[both.mean], &[whole.mean], relative(1e-14)).unwrap();
            within("var", &[both.var()], &[whole.var()], relative(1e-12)).unwrap();
            assert_eq!(both.count, 100.0);
        }
    }

    #[test]
    fn the_identity_changes_nothing() {
        let some = Moments::of([2.0, 4.0, 9.0]);
        assert_eq!(some.combine(Moments::IDENTITY), some);
        assert_eq!(Moments::IDENTITY.combine(some), some);
        assert_eq!(
            Moments::IDENTITY.combine(Moments::IDENTITY),
            Moments::IDENTITY
        );
    }
}
