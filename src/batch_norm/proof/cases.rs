//! What is tried: shapes, with every way to solve a problem on them.

use super::case::BatchCase;
use crate::batch_norm::config::BatchNormConfig;
use crate::batch_norm::line::{Line, Pass};
use crate::batch_norm::policy::{Momentum, NonFinite, RunningVariance, SingleValue};
use crate::dtype::{Dtype, Problem};
use crate::gpu::{F16Conversion, test_gpu};
use crate::norm::f16::serves;
use crate::norm::options::{Destination, Epilogue, ParameterGradients};
use crate::norm::proof::cover::covering;
use crate::norm::proof::inputs::Fill;
use crate::norm::proof::shapes::{
    CPU_TILE, EXTENTS, GPU_TILES, Lottery, WIDE_EXTENTS, WIDE_TILE, WIDEST, product, shapes,
};
use crate::norm::tuning::{Strategy, Tuning};

const OUT: Destination = Destination::OutOfPlace;
const IN: Destination = Destination::InPlace;

const fn backward(frozen: bool, dx: Option<Destination>, parameters: ParameterGradients) -> Pass {
    Pass::Backward {
        frozen,
        dx,
        parameters,
    }
}

/// The first four are basic: all are tried. Of the others a sample is.
const PASSES: [Pass; 21] = [
    Pass::Train,
    Pass::Eval(OUT),
    Pass::backward(false),
    Pass::backward(true),
    Pass::Eval(IN),
    backward(false, Some(IN), ParameterGradients::Accumulate),
    backward(true, Some(IN), ParameterGradients::Accumulate),
    backward(false, None, ParameterGradients::Overwrite),
    backward(true, None, ParameterGradients::Accumulate),
    backward(false, Some(OUT), ParameterGradients::Skip),
    backward(true, Some(OUT), ParameterGradients::Skip),
    Pass::Stats,
    Pass::Combine(3),
    Pass::Finalize(1),
    Pass::Finalize(3),
    Pass::Apply(OUT),
    Pass::Apply(IN),
    Pass::BackwardReduce,
    Pass::BackwardCombine(3),
    Pass::BackwardApply(OUT),
    Pass::BackwardApply(IN),
];

/// One value a channel, by every policy.
const SINGLE_VALUES: [&str; 10] = [
    "n1c5 nc f32 train single=update gpu",
    "n1c5 nc f32 train single=skip gpu",
    "n1c130 nc f32 train biased single=update",
    "n1c5 nc f32 backward single=update gpu",
    "n1c5 nc f32 finalize=1 gpu",
    "n1c5 nc f32 finalize=1 single=update gpu",
    "n1c5 nc f32 finalize=1 single=running gpu",
    "n1c5 nc f32 finalize=3 single=running gpu",
    "n1c5 nc f32 backward-reduce single=running gpu",
    "n1c5 nc f32 backward-apply single=running gpu",
];

/// Each kernel that converts, by the device's own conversions of f16.
pub const CONVERSIONS: [&str; 12] = [
    "n3c5h7w7 nchw f16 train split 64x32 gpu f16=native",
    "n2c20h8w8 nchw f16 relu train reread 64x32 gpu f16=native",
    "n2c20h8w8 nchw f16 train resident 64x32 gpu f16=native",
    "n3c5h7w7 nchw f16 relu backward split 64x32 gpu f16=native",
    "n2c20h8w8 nchw f16 backward in-place reread 64x32 gpu f16=native",
    "n2c20h8w8 nchw f16 relu backward resident 64x32 gpu f16=native",
    "n3c5h7w7 nhwc f16 frozen-backward 64x32 gpu f16=native",
    "n2c20h8w8 nhwc f16 train reread 64x32 gpu f16=native",
    "n2c20h8w8 nhwc f16 add-relu backward split 64x32 gpu f16=native",
    "n3c5h7w7 nhwc f16 eval in-place 64x32 gpu f16=packing",
    "n2c20h8w8 nchw f16 train resident 64x32 gpu f16=packing",
    "n2c20h8w8 nchw f16 relu backward resident 64x32 gpu f16=packing",
];

/// Running statistics moved by those of instances, which no other case runs: one lane and many for a channel, channels beyond
/// a workgroup, and every policy.
const INSTANCES: [&str; 10] = [
    "n3c5h4w3 nchw f32 instances",
    "n2c7l5 nlc f32 instances gpu",
    "n1c4l2 ncl f32 instances",
    "n33c6h3w3 nhwc f32 instances gpu",
    "n41c130l3 ncl f32 instances",
    "n600c3l2 ncl f32 instances gpu",
    "n5c9l4 ncl f32 instances cumulative gpu",
    "n7c4l6 ncl f32 instances biased keras-momentum=0.7",
    "n4c4l3 nlc f32 instances momentum=0.3 no-bias non-finite=skip gpu",
    "n0c4l3 ncl f32 instances",
];

/// Further shapes for constant values.
const MORE_CONSTANT: [&str; 20] = [
    "n5c5h7w7",
    "n9c4h8w8",
    "n7c20h8w8",
    "n5c3l5",
    "n17c5",
    "n6c7h3w5",
    "n11c8h4w4",
    "n2c6h16w16",
    "n3c3h9w9",
    "n12c2h6w6",
    "n10c24h2w2",
    "n3c16l64",
    "n8c12l20",
    "n13c9",
    "n30c16",
    "n4c28h4w4",
    "n5c36h3w3",
    "n7c5h5w9",
    "n2c12h12w12",
    "n6c44l9",
];

/// Whether the environment names one case, as a failing test prints it.
pub fn alone() -> bool {
    std::env::var_os("WGPU_NORM_LINE").is_some()
}

/// The case that the environment names.
fn named() -> Option<Vec<BatchCase>> {
    let line = std::env::var("WGPU_NORM_LINE").ok()?;
    Some(vec![line.parse().unwrap_or_else(|error| panic!("{error}"))])
}

/// Every shape in both layouts, with every strategy, tile, pass, storage type and option that it can be had with.
pub fn all_cases() -> Vec<BatchCase> {
    cases_with(97)
}

/// Whether the test device converts f16 as the case wants.
fn is_served(case: &BatchCase) -> bool {
    let conversion = case.line.common.f16.unwrap_or_default();
    conversion == F16Conversion::Integers
        || serves(test_gpu(), conversion).expect("the test device")
}

/// Those of the conversions that the test device has.
pub fn served_conversions() -> Vec<BatchCase> {
    let cases = CONVERSIONS.iter().map(|line| line.parse().expect("a line"));
    cases.filter(is_served).collect()
}

/// Those that a device runs, of a larger sample, and of those that force a strategy of one kernel of a still larger one.
pub fn cases() -> Vec<BatchCase> {
    let mut cases = cases_with(60);
    let all = cases.len();
    cases.retain(is_served);
    let named = SINGLE_VALUES.len() + CONVERSIONS.len() + INSTANCES.len() - (all - cases.len());
    // A drawn case seldom forces a strategy of one kernel.
    let mut others = cases_with(16);
    others.retain(|case| {
        let strategy = case.line.common.tuning.strategy;
        matches!(strategy, Some(Strategy::Resident | Strategy::Reread)) && is_served(case)
    });
    covering(named, cases, others)
}

/// The basic cases of every shape, and one in `one_in` of the whole product of tunings, passes, storage types, epilogues,
/// options and bindings.
fn cases_with(one_in: u64) -> Vec<BatchCase> {
    if let Some(named) = named() {
        return named;
    }
    let lines = SINGLE_VALUES.iter().chain(&CONVERSIONS).chain(&INSTANCES);
    let lines = lines.map(|line| line.parse());
    let mut cases: Vec<_> = lines.map(|case| case.expect("a line")).collect();
    let mut lottery = Lottery::default();
    let narrow = shapes(&EXTENTS).into_iter().map(|shape| (shape, false));
    let wide = shapes(&WIDE_EXTENTS).into_iter().map(|shape| (shape, true));
    for (index, (shape, wide)) in narrow.chain(wide).enumerate() {
        let config = BatchNormConfig::new(shape.channels());
        // One set of policies, which are constants of kernels; single values have cases of their own.
        let options = [
            config,
            config
                .bias(false)
                .momentum(None)
                .running_variance(RunningVariance::Biased)
                .single_value(SingleValue::Running)
                .non_finite(NonFinite::Skip),
            config
                .weight(false)
                .eps(1e-3)
                .momentum(Momentum::Keras(0.7)),
            config.affine(false).track_running_stats(false),
            config.affine(false).eps(0.5).momentum(0.3),
        ];
        // Kernels of 16 columns compile ten times as long as others.
        let rarely = if wide { 16 } else { 1 };
        let typed_tunings = product(Dtype::ALL, &tunings(index, wide, 2));
        for ((dtype, (tuning, as_gpu)), (pass, epilogue)) in
            product(&typed_tunings, &product(&PASSES, Epilogue::ALL))
        {
            for (config, max_binding) in product(&options, &[None, Some(1024)]) {
                // Drivers have been seen to stumble over wide kernels of every storage type.
                let typed = shape == WIDEST && tuning.strategy == Some(Strategy::Split);
                let plain = (dtype == Dtype::F32 || typed) && epilogue == Epilogue::Identity;
                let often =
                    (config == options[0] || !wide) && (max_binding.is_none() || lottery.one_in(4));
                let basic = PASSES[..4].contains(&pass);
                if (plain && basic && often) || lottery.one_in(rarely * one_in) {
                    let problem = Problem::new(shape, dtype);
                    let mut line = Line::new(problem, &config.epilogue(epilogue), pass);
                    line.common = line
                        .common
                        .tuning(tuning)
                        .as_gpu(as_gpu)
                        .max_binding(max_binding);
                    let fill = Fill::Noise;
                    cases.push(BatchCase { line, fill });
                }
            }
        }
    }
    cases
}

/// The tunings that are forced on the shape of an index, and whether as for a GPU: every strategy on several tiles, and what
/// a plan for a GPU chooses by itself.
fn tunings(index: usize, wide: bool, gpu_tiles: usize) -> Vec<(Tuning, bool)> {
    let mut tiles = vec![(if wide { WIDE_TILE } else { CPU_TILE }, false)];
    if !wide {
        let by_turns = (0..gpu_tiles).map(|turn| GPU_TILES[(index / 2 + turn) % 2]);
        tiles.extend(by_turns.map(|tile| (tile, true)));
    }
    let mut tunings = vec![(Tuning::default(), true)];
    for (strategy, (tile, as_gpu)) in product(Strategy::ALL, &tiles) {
        let tuning = Tuning::default().strategy(Some(strategy)).tile(Some(tile));
        tunings.push((tuning, as_gpu));
    }
    tunings
}

/// Cases whose answer f32 has without rounding.
pub fn exact_cases() -> Vec<BatchCase> {
    exact_cases_by(false)
}

/// Those that a device runs: with few of their kernels, but on more shapes.
pub fn exact_cases_on_device() -> Vec<BatchCase> {
    covering(0, exact_cases(), exact_cases_by(true))
}

/// Tiles for processors and for GPUs take turns by shape, in either order.
fn exact_cases_by(turned: bool) -> Vec<BatchCase> {
    if let Some(named) = named() {
        return named;
    }
    let mut cases = Vec::new();
    // Lanes, teams and chunks take 1, 2, 4 or 8 values each, so that no mean has a remainder.
    let integers = shapes(&[
        "n4c4",
        "n64c8",
        "n2c12",
        "n4c4h4w4",
        "n1c4h8w8",
        "n4c4h1w16",
    ]);
    let integers = integers.into_iter().map(|shape| (shape, Fill::Integers));
    let more: &[&str] = if turned { &MORE_CONSTANT } else { &[] };
    let constant = [shapes(&EXTENTS), shapes(more)].concat().into_iter();
    let constant = constant.map(|shape| (shape, Fill::Constant));
    let passes = [
        Pass::Train,
        Pass::Stats,
        Pass::backward(false),
        Pass::BackwardReduce,
    ];
    for (index, (shape, fill)) in integers.chain(constant).enumerate() {
        let config = BatchNormConfig::new(shape.channels());
        // Small integers are the same in all storage types.
        let problem = Problem::new(shape, Dtype::F32);
        let tunings = tunings(index, false, 1).into_iter();
        let tunings: Vec<_> = tunings
            .filter(|(_, gpu)| (*gpu == (index / 2 % 2 == 0)) != turned)
            .collect();
        for ((tuning, as_gpu), pass) in product(&tunings, &passes) {
            let mut line = Line::new(problem, &config, pass);
            line.common = line.common.tuning(tuning).as_gpu(as_gpu);
            cases.push(BatchCase { line, fill });
        }
    }
    cases
}

#[test]
fn a_line_reads_back() {
    for case in all_cases() {
        let line: Line = case.to_string().parse().unwrap();
        assert_eq!(line, case.line);
    }
    assert!("n2c3 train in-place".parse::<Line>().is_err());
    assert!("n2c3 gelu".parse::<Line>().is_err());
}
