//! The oracle, and what is tried.

use crate::dtype::Problem;
use crate::group_norm::config::GroupNormConfig;
use crate::group_norm::sample::Line;
use crate::norm::proof::cover::covering;
use crate::norm::proof::sample::{self, Forward, Gradients, Oracle, SampleCase};
use crate::norm::proof::shapes::shapes;
use crate::reference::group_norm as oracle;
use crate::shape::Shape;

/// Groups of 1, 2, 3, 5 and more channels, of whole and of odd vectors, one image, and as many values as a vector has.
const EXTENTS: [&str; 18] = [
    "n2c6h7w7",
    "n3c10l5",
    "n5c6",
    "n2c32h4w4",
    "n1c64h8w8",
    "n4c12h5w3",
    "n3c15h3w3",
    "n2c8d2h3w4",
    "n1c9h33w31",
    "n2c6l2",
    "n3c5l3",
    "n7c4h1w1",
    "n2c7h3w2",
    "n9c4l4",
    "n1c2l1021",
    "n2c36l64",
    "n4c8h4w4",
    "n3c16l8",
];

/// Samples with parameters of their own, whose groups share vectors.
const NAMED: [&str; 2] = [
    "group n3c6h7w7 nhwc f32 forward groups=3 per-sample split gpu",
    "group n3c6h7w7 nchw f32 forward groups=3 per-sample unit-offset split gpu",
];

impl Oracle for GroupNormConfig {
    fn forward_of(
        &self,
        problem: Problem,
        x: &[f64],
        weight: Option<&[f64]>,
        bias: Option<&[f64]>,
    ) -> Forward {
        let forward = oracle::forward(
            problem.shape,
            self.num_groups,
            x,
            weight,
            bias,
            self.eps.into(),
        );
        Forward {
            y: forward.y,
            mean: forward.mean,
            inv_std: forward.inv_std,
        }
    }

    fn gradients_of(
        &self,
        problem: Problem,
        x: &[f64],
        dy: &[f64],
        weight: Option<&[f64]>,
    ) -> Gradients {
        let gradients = oracle::backward(
            problem.shape,
            self.num_groups,
            x,
            dy,
            weight,
            self.eps.into(),
        );
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}

/// Every shape in both layouts, and one in `one_in` of the ways to solve a problem on them.
pub fn cases(one_in: u64) -> Vec<SampleCase<GroupNormConfig>> {
    let configs = |shape: Shape| {
        let channels = shape.channels();
        // Groups of the most channels, and of the fewest; one group, and as many as channels.
        let divides = |&groups: &usize| channels.is_multiple_of(groups);
        let few = (2..channels).find(divides).unwrap_or(channels);
        let many = (1..channels).rev().find(divides).unwrap_or(1);
        let config = |groups| GroupNormConfig::new(groups, channels);
        [
            config(few),
            config(many).bias(false),
            config(1).weight(false).eps(1e-3),
            config(channels).affine(false),
            config(few).per_sample(true).unit_offset(true),
            config(1).per_sample(true).weight(false),
        ]
    };
    sample::cases(shapes(&EXTENTS), configs, &NAMED, one_in)
}

/// Those that a device runs.
pub fn device_cases() -> Vec<SampleCase<GroupNormConfig>> {
    covering(NAMED.len(), cases(60), cases(4))
}

#[test]
fn a_line_reads_back() {
    for case in cases(24) {
        let line: Line = case.to_string().parse().unwrap();
        assert_eq!(line, case.line);
    }
    for line in [
        "group n2c4l5 train",
        "group n2c4l5 size=4",
        "group n2c4l5 forward in-place",
    ] {
        assert!(line.parse::<Line>().is_err(), "{line}");
    }
}
