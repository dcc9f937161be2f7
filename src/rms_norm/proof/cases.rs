//! The oracle, and what is tried.

use crate::dtype::{Dtype, Problem};
use crate::norm::proof::cover::covering;
use crate::norm::proof::inputs::stored;
use crate::norm::proof::sample::{self, Forward, Gradients, Oracle, SampleCase};
use crate::norm::proof::shapes::shapes;
use crate::norm::sample::Sealed;
use crate::reference::rms_norm as oracle;
use crate::rms_norm::config::{RmsNormConfig, Rounding};
use crate::rms_norm::sample::Line;
use crate::shape::Shape;

/// Rows of 1 and 3 values, of whole and of odd vectors, several to a workgroup, and one alone.
const EXTENTS: [&str; 12] = [
    "n5c1", "n8c1", "n7c3", "n9c31", "n40c64", "n33c128", "n3c768", "n1c4097", "n2c300l2",
    "n17c20", "n70c16", "n6c256",
];

/// Rows in registers without the sums of their columns, and values that are rounded before the weight in every kernel.
const NAMED: [&str; 10] = [
    "rms n33c128 nc f32 backward skip resident 64x32 gpu",
    "rms n40c64 nc f16 backward skip unit-offset resident 64x32 gpu",
    "rms n3c768 nc bf16 relu backward skip in-place resident 256x4 gpu",
    "rms n70c16 nc f32 backward skip prenorm resident 256x4 gpu",
    "rms n40c64 nc bf16 forward rounding=before-weight resident 64x32 gpu",
    "rms n9c31 nc f16 silu forward rounding=before-weight split 64x32 gpu",
    "rms n40c64 nc f16 backward rounding=before-weight resident 64x32 gpu",
    "rms n40c64 nc bf16 silu backward rounding=before-weight reread 8x8x2",
    "rms n300c8 nc bf16 backward rounding=before-weight reread 8x8x8",
    "rms n4c64l5 nlc bf16 backward rounding=before-weight per-sample gpu",
];

impl RmsNormConfig {
    /// What rounds normalized values before the weight.
    fn rounded(&self, problem: Problem) -> impl Fn(f64) -> f64 {
        let rounds = self.rounds_to(problem.dtype);
        move |x_hat| match rounds {
            true => stored(problem.dtype, x_hat),
            false => x_hat,
        }
    }
}

impl Oracle for RmsNormConfig {
    fn rounds_to(&self, dtype: Dtype) -> bool {
        self.rounding == Rounding::BeforeWeight && dtype != Dtype::F32
    }

    fn forward_of(
        &self,
        problem: Problem,
        x: &[f64],
        weight: Option<&[f64]>,
        bias: Option<&[f64]>,
    ) -> Forward {
        let size = self.normalized_size;
        let rounded = self.rounded(problem);
        let forward = oracle::forward_rounded(size, x, weight, bias, self.eps.into(), rounded);
        Forward {
            y: forward.y,
            mean: vec![0.0; forward.inv_rms.len()],
            inv_std: forward.inv_rms,
        }
    }

    fn gradients_of(
        &self,
        problem: Problem,
        x: &[f64],
        dy: &[f64],
        weight: Option<&[f64]>,
    ) -> Gradients {
        let size = self.normalized_size;
        let rounded = self.rounded(problem);
        let gradients = oracle::backward_rounded(size, x, dy, weight, self.eps.into(), rounded);
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}

/// Every shape in both layouts, and one in `one_in` of the ways to solve a problem on them.
pub fn cases(one_in: u64) -> Vec<SampleCase<RmsNormConfig>> {
    let configs = |shape: Shape| {
        let config = RmsNormConfig::of_shape(shape);
        [
            config,
            config
                .unit_offset(true)
                .bias(true)
                .rounding(Rounding::BeforeWeight),
            config.weight(false).bias(true).eps(1e-3),
            config.per_sample(true).bias(true),
        ]
    };
    sample::cases(shapes(&EXTENTS), configs, &NAMED, one_in)
}

/// Those that a device runs.
pub fn device_cases() -> Vec<SampleCase<RmsNormConfig>> {
    covering(NAMED.len(), cases(60), cases(4))
}

#[test]
fn a_line_reads_back() {
    for case in cases(24) {
        let line: Line = case.to_string().parse().unwrap();
        assert_eq!(line, case.line);
    }
    for line in [
        "rms n2c4l5 train",
        "rms n2c4l5 no-bias",
        "rms n2c4l5 forward in-place",
    ] {
        assert!(line.parse::<Line>().is_err(), "{line}");
    }
}
