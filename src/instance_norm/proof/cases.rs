//! The oracle, and what is tried.

use crate::dtype::Problem;
use crate::instance_norm::config::InstanceNormConfig;
use crate::instance_norm::sample::Line;
use crate::norm::field::MOMENTS;
use crate::norm::proof::cover::covering;
use crate::norm::proof::inputs::moment_rows;
use crate::norm::proof::sample::{self, Forward, Gradients, Oracle, SampleCase};
use crate::norm::proof::shapes::{EXTENTS, WIDE_EXTENTS, shapes};
use crate::norm::twin::MoveRunning;
use crate::norm::uniform::EpsSettings;
use crate::reference::instance_norm as oracle;
use crate::shape::Shape;

/// Instances that share vectors, lie in several windows, or are as small as they may be.
const MORE: [&str; 6] = [
    "n3c2l2",
    "n9c1l3",
    "n5c3l5",
    "n33c5h3w3",
    "n6c20h5w5",
    "n40c8h4w4",
];

impl Oracle for InstanceNormConfig {
    // running_instances.wgsl
    const MOVE_RUNNING: MoveRunning<EpsSettings> = |run, index, mean, m2, count| {
        let rows = [mean, 0.0, m2, count];
        for (row, value) in rows.into_iter().enumerate() {
            let at = row * run.statistics() + index;
            run.memory.set(MOMENTS, at, value);
        }
    };

    fn moments_of(&self, problem: Problem, x: &[f64]) -> Option<Vec<f64>> {
        let moments = oracle::moments(problem.shape, x);
        self.track_running_stats.then(|| moment_rows(&moments))
    }

    fn forward_of(
        &self,
        problem: Problem,
        x: &[f64],
        weight: Option<&[f64]>,
        bias: Option<&[f64]>,
    ) -> Forward {
        let forward = oracle::forward(problem.shape, x, weight, bias, self.eps.into());
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
        let gradients = oracle::backward(problem.shape, x, dy, weight, self.eps.into());
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}

/// Every shape in both layouts, and one in `one_in` of the ways to solve a problem on them.
pub fn cases(one_in: u64) -> Vec<SampleCase<InstanceNormConfig>> {
    let all = [shapes(&EXTENTS), shapes(&MORE), shapes(&WIDE_EXTENTS)].concat();
    let spatial = all.into_iter().filter(|shape| shape.plane() != Some(1));
    let configs = |shape: Shape| {
        let config = InstanceNormConfig::new(shape.channels()).affine(true);
        [
            config,
            config.bias(false),
            config.weight(false).eps(1e-3),
            config.affine(false),
            config.per_sample(true).unit_offset(true),
            config.per_sample(true).weight(false),
            config.track_running_stats(true),
        ]
    };
    sample::cases(spatial, configs, &[], one_in)
}

/// Those that a device runs.
pub fn device_cases() -> Vec<SampleCase<InstanceNormConfig>> {
    covering(0, cases(60), cases(4))
}

#[test]
fn a_line_reads_back() {
    for case in cases(24) {
        let line: Line = case.to_string().parse().unwrap();
        assert_eq!(line, case.line);
    }
    for line in [
        "n2c3l5",
        "instance n2c3l5 forward in-place",
        "instance n2c3l5 train",
    ] {
        assert!(line.parse::<Line>().is_err(), "{line}");
    }
}
