//! The oracle, and what is tried.

use crate::dtype::Problem;
use crate::layer_norm::config::LayerNormConfig;
use crate::layer_norm::sample::Line;
use crate::norm::proof::cover::covering;
use crate::norm::proof::sample::{self, Forward, Gradients, Oracle, SampleCase};
use crate::norm::proof::shapes::shapes;
use crate::norm::sample::Sealed;
use crate::reference::layer_norm as oracle;
use crate::shape::Shape;

/// Rows of 1, 2 and 3 values, of whole and of odd vectors, several to a workgroup, and one alone; images by sample and by position.
const EXTENTS: [&str; 19] = [
    "n5c1",
    "n8c1",
    "n7c3",
    "n6c2",
    "n9c31",
    "n40c64",
    "n33c128",
    "n5c129",
    "n3c768",
    "n4c1000",
    "n1c4097",
    "n2c12h3w4",
    "n3c6h3w3",
    "n2c300l2",
    "n300c8",
    "n17c20",
    "n4c4l1",
    "n3c36l5",
    "n2c2080",
];

/// Rows in registers without the sums of their columns, workgroups that take several rows, one after the other, and lanes with
/// several rows side by side, in several windows, some of them without rows, and rows of one value. Samples with parameters of their own: rows of several, so many that the last
/// workgroup of a sample has fewer, rows that share vectors with the next sample, and rows that are walked in columns.
const NAMED: [&str; 21] = [
    "layer n33c128 nc f32 backward skip resident 64x32 gpu",
    "layer n40c64 nc f16 backward skip resident 64x32 gpu",
    "layer n3c768 nc bf16 relu backward skip in-place resident 256x4 gpu",
    "layer n2c2080 nc f32 backward skip prenorm resident 256x4 gpu",
    "layer n1024c16 nc f32 forward split 8x8x4 binding=40960",
    "layer n1024c16 nc f32 backward skip split 8x8x4 binding=40960",
    "layer n1040c68 nc f32 backward resident 16x8 gpu",
    "layer n600c132 nc f32 backward resident 16x8 gpu",
    "layer n1040c68 nc f16 relu backward in-place resident 16x8 gpu",
    "layer n3c31l3 nlc f32 forward per-sample split gpu",
    "layer n7c3l2 nlc f32 forward per-sample split gpu",
    "layer n3c64l40 nlc f32 backward per-sample unit-offset resident 64x32 gpu",
    "layer n8c68l129 nlc f32 backward per-sample resident 16x8 gpu",
    "layer n3c64l37 nlc f16 relu backward in-place accumulate per-sample resident 64x32 gpu",
    "layer n3c31l5 nlc f32 add-relu backward accumulate per-sample split gpu",
    "layer n40c20l16 nlc f32 forward per-sample reread 8x8x4",
    "layer n300c8 nc f32 forward reread 8x8x4",
    "layer n300c8 nc f32 backward reread 8x8x4",
    "layer n33c128 nc f32 relu backward in-place accumulate reread 8x8x4",
    "layer n300c8 nc f32 silu backward no-weight reread 8x8x4",
    "layer n128c1 nc f32 backward reread 8x8x4",
];

impl Oracle for LayerNormConfig {
    fn forward_of(
        &self,
        _: Problem,
        x: &[f64],
        weight: Option<&[f64]>,
        bias: Option<&[f64]>,
    ) -> Forward {
        let forward = oracle::forward(self.normalized_size, x, weight, bias, self.eps.into());
        Forward {
            y: forward.y,
            mean: forward.mean,
            inv_std: forward.inv_std,
        }
    }

    fn gradients_of(&self, _: Problem, x: &[f64], dy: &[f64], weight: Option<&[f64]>) -> Gradients {
        let gradients = oracle::backward(self.normalized_size, x, dy, weight, self.eps.into());
        Gradients {
            dx: gradients.dx,
            dweight: gradients.dweight,
            dbias: gradients.dbias,
        }
    }
}

/// Every shape in both layouts, and one in `one_in` of the ways to solve a problem on them.
pub fn cases(one_in: u64) -> Vec<SampleCase<LayerNormConfig>> {
    let configs = |shape: Shape| {
        let config = LayerNormConfig::of_shape(shape);
        [
            config,
            config.bias(false),
            config.weight(false).eps(1e-3),
            config.affine(false),
            config.per_sample(true).unit_offset(true),
            config.per_sample(true).weight(false),
        ]
    };
    sample::cases(shapes(&EXTENTS), configs, &NAMED, one_in)
}

/// Those that a device runs.
pub fn device_cases() -> Vec<SampleCase<LayerNormConfig>> {
    covering(NAMED.len(), cases(60), cases(4))
}

#[test]
fn a_line_reads_back() {
    for case in cases(24) {
        let line: Line = case.to_string().parse().unwrap();
        assert_eq!(line, case.line);
    }
    for line in [
        "layer n2c4l5 train",
        "layer n2c4l5 groups=4",
        "layer n2c4l5 forward in-place",
    ] {
        assert!(line.parse::<Line>().is_err(), "{line}");
    }
}
