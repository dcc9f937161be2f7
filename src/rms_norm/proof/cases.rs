//! The oracle, and what is tried.

use crate::norm::proof::cover::covering;
use crate::norm::proof::sample::{self, Forward, Gradients, Oracle, SampleCase};
use crate::norm::proof::shapes::shapes;
use crate::norm::sample::Sealed;
use crate::reference::rms_norm as oracle;
use crate::rms_norm::config::RmsNormConfig;
use crate::rms_norm::sample::Line;
use crate::shape::Shape;

/// Rows of 1 and 3 values, of whole and of odd vectors, several to a workgroup, and one alone.
const EXTENTS: [&str; 12] = [
    "n5c1", "n8c1", "n7c3", "n9c31", "n40c64", "n33c128", "n3c768", "n1c4097", "n2c300l2",
    "n17c20", "n70c16", "n6c256",
];

/// Rows in registers without the sums of their columns.
const NAMED: [&str; 4] = [
    "rms n33c128 nc f32 backward skip resident 64x32 gpu",
    "rms n40c64 nc f16 backward skip unit-offset resident 64x32 gpu",
    "rms n3c768 nc bf16 relu backward skip in-place resident 256x4 gpu",
    "rms n70c16 nc f32 backward skip prenorm resident 256x4 gpu",
];

impl Oracle for RmsNormConfig {
    fn forward_of(
        &self,
        _: Shape,
        x: &[f64],
        weight: Option<&[f64]>,
        _: Option<&[f64]>,
    ) -> Forward {
        let size = self.normalized_size;
        let forward = oracle::forward(size, x, weight, self.eps.into());
        Forward {
            y: forward.y,
            mean: vec![0.0; forward.inv_rms.len()],
            inv_std: forward.inv_rms,
        }
    }

    fn gradients_of(&self, _: Shape, x: &[f64], dy: &[f64], weight: Option<&[f64]>) -> Gradients {
        let size = self.normalized_size;
        let gradients = oracle::backward(size, x, dy, weight, self.eps.into());
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: Vec::new(),
        }
    }
}

/// Every shape in both layouts, and one in `one_in` of the ways to solve a problem on them.
pub fn cases(one_in: u64) -> Vec<SampleCase<RmsNormConfig>> {
    let configs = |shape: Shape| {
        let config = RmsNormConfig::of_shape(shape);
        [
            config,
            config.unit_offset(true),
            config.weight(false).eps(1e-3),
            config.per_sample(true),
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
