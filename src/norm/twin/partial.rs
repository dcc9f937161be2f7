//! The twin of what every file in slot `monoid` declares.

/// The twin of a file in slot `monoid`: partial results of four independent components.
pub trait Partial: Copy {
    /// Fields, each of four components.
    const FIELDS: usize;
    fn identity() -> Self;
    fn combine(self, other: Self) -> Self;
    /// The components, permuted.
    fn swizzle(self, order: [usize; 4]) -> Self;
    fn fields(self) -> Vec<[f64; 4]>;
    fn of_fields(fields: &[[f64; 4]]) -> Self;

    /// The four components combined into one. All four components of the result are equal.
    fn fold(self) -> Self {
        let pairs = self.combine(self.swizzle([2, 3, 0, 1]));
        pairs.combine(pairs.swizzle([1, 0, 3, 2])).swizzle([0; 4])
    }
}
