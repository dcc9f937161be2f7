//! The cases of norms whose statistics come from each sample alone. A norm brings its oracle, shapes and configurations.

mod case;
mod cases;

pub use case::{Forward, Gradients, Oracle, SampleCase};
pub use cases::{alone, cases};
