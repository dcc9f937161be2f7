//! The rows of packed buffers, as byte ranges.

use std::ops::Range;

/// Declares a struct of rows that follow one another.
macro_rules! rows {
    ($(#[$doc:meta])* $name:ident { $($(#[$row_doc:meta])* $row:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$row_doc])* pub $row: Range<u64>),+
        }

        impl $name {
            /// Rows of `count` values of 4 bytes.
            pub fn new(count: usize) -> Self {
                let mut rows = row_ranges(count);
                $(let $row = rows();)+
                Self { $($row),+ }
            }

            /// The bytes of all rows.
            pub fn bytes(&self) -> u64 {
                [$(&self.$row),+].into_iter().map(|row| row.end).max().unwrap_or(0)
            }
        }
    };
}

/// Returns one row after the other.
fn row_ranges(count: usize) -> impl FnMut() -> Range<u64> {
    let (bytes, mut next) = ((count as u64).saturating_mul(4), 0u64);
    move || {
        let begin = next;
        next = begin.saturating_add(bytes);
        begin..next
    }
}

/// The rows of parameters, `affine`, and of their gradients, `grads`. f32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AffineRows {
    /// Weight, or its gradient; `None` if the configuration has no weight.
    pub weight: Option<Range<u64>>,
    /// Bias, or its gradient; `None` if the configuration has no bias.
    pub bias: Option<Range<u64>>,
}

impl AffineRows {
    /// Rows of `count` values of 4 bytes, of those that there are.
    pub fn new(count: usize, weight: bool, bias: bool) -> Self {
        let mut rows = row_ranges(count);
        Self {
            weight: weight.then(&mut rows),
            bias: bias.then(&mut rows),
        }
    }

    /// The bytes of all rows.
    pub fn bytes(&self) -> u64 {
        let rows = [&self.weight, &self.bias];
        rows.into_iter()
            .flatten()
            .map(|row| row.end)
            .max()
            .unwrap_or(0)
    }
}

rows! {
    /// The rows of running statistics, `running`.
    RunningRows {
        /// Running means. f32.
        mean,
        /// Running variances. f32.
        var,
        /// How many batches have moved the channel's averages. u32.
        num_batches_tracked,
        /// How many batches were not finite, and have not moved them. u32.
        num_batches_skipped,
    }
}

rows! {
    /// The rows of the statistics that forward saves for backward, `saved`. f32.
    SavedRows {
        /// Means, rounded to about a millionth of the deviation, so that values subtract from them without rounding.
        mean,
        /// `1 / sqrt(variance + eps)`.
        inv_std,
        /// What rounding left out of the means: the mean is `mean + mean_low`.
        mean_low,
    }
}

rows! {
    /// The rows of moments: `moments`, and each of `parts`. f32.
    MomentRows {
        /// Means, rounded to f32.
        mean,
        /// What rounding left out of the means.
        mean_low,
        /// Sums of squared deviations from the mean.
        m2,
        /// Number of values.
        count,
    }
}

rows! {
    /// The rows of the sums that backward needs, `sums`. f32.
    SumRows {
        /// The gradients of the weight: sums of `x_hat * g`, where `g` is the gradient of the normalized values.
        dweight,
        /// The gradients of the bias: sums of `g`.
        dbias,
        /// Number of values.
        count,
    }
}

#[test]
fn rows_follow_one_another() {
    let rows = SavedRows::new(3);
    assert_eq!(
        (rows.mean, rows.inv_std, rows.mean_low),
        (0..12, 12..24, 24..36)
    );
    assert_eq!(MomentRows::new(5).bytes(), 80);
    let affine = AffineRows::new(3, true, true);
    assert_eq!((affine.weight, affine.bias), (Some(0..12), Some(12..24)));
    let bias = AffineRows::new(3, false, true);
    assert_eq!(
        (bias.weight.clone(), bias.bias.clone(), bias.bytes()),
        (None, Some(0..12), 12)
    );
    assert_eq!(AffineRows::new(3, false, false).bytes(), 0);
    assert_eq!(MomentRows::new(usize::MAX).bytes(), u64::MAX);
}
