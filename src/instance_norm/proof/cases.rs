//! What is tried: shapes, with every way to solve a problem on them.

use super::case::InstanceCase;
use crate::dtype::{Dtype, Problem};
use crate::instance_norm::config::InstanceNormConfig;
use crate::instance_norm::line::{Line, Pass};
use crate::norm::options::{Destination, Epilogue, ParameterGradients};
use crate::norm::proof::shapes::{
    CPU_TILE, EXTENTS, GPU_TILES, Lottery, WIDE_EXTENTS, product, shapes,
};
use crate::norm::tuning::{Strategy, Tuning};

const OUT: Option<Destination> = Some(Destination::OutOfPlace);
const IN: Option<Destination> = Some(Destination::InPlace);

const fn backward(dx: Option<Destination>, parameters: ParameterGradients) -> Pass {
    Pass::Backward { dx, parameters }
}

/// The first two are basic: every shape and strategy is run. Of the others a sample is.
const PASSES: [Pass; 5] = [
    Pass::Forward,
    backward(OUT, ParameterGradients::Overwrite),
    backward(IN, ParameterGradients::Accumulate),
    backward(None, ParameterGradients::Overwrite),
    backward(OUT, ParameterGradients::Skip),
];

/// Instances that share vectors, lie in several windows, or are as small as they may be.
const MORE: [&str; 6] = [
    "n3c2l2",
    "n9c1l3",
    "n5c3l5",
    "n33c5h3w3",
    "n6c20h5w5",
    "n40c8h4w4",
];

/// Whether the environment names one case, as a failing test prints it.
pub fn alone() -> bool {
    std::env::var_os("WGPU_NORM_LINE").is_some()
}

/// Every shape in both layouts with every strategy; of the product with storage types, epilogues, options and bindings one
/// in `product`. Sorted by kernels.
pub fn cases(one_in: u64) -> Vec<InstanceCase> {
    if let Ok(line) = std::env::var("WGPU_NORM_LINE") {
        // A line of another norm is none of these tests' business.
        return line.parse().into_iter().collect();
    }
    let mut cases = Vec::new();
    let mut lottery = Lottery::default();
    let all = [shapes(&EXTENTS), shapes(&MORE), shapes(&WIDE_EXTENTS)].concat();
    let spatial = all.into_iter().filter(|shape| shape.plane() != Some(1));
    for (index, shape) in spatial.enumerate() {
        let config = InstanceNormConfig::new(shape.channels()).affine(true);
        let options = [
            config,
            config.bias(false),
            config.weight(false).eps(1e-3),
            config.affine(false),
        ];
        // The same settings for every shape, so that shapes share kernels.
        let mut settings = Lottery::default();
        let mut tunings = vec![(Tuning::default(), true)];
        // Tiles for processors and for GPUs take turns.
        let (tile, as_gpu) = match index / 2 % 2 {
            0 => (CPU_TILE, false),
            _ => (GPU_TILES[index / 4 % 2], true),
        };
        for &strategy in Strategy::ALL {
            let tuning = Tuning::default().strategy(Some(strategy)).tile(Some(tile));
            tunings.push((tuning, as_gpu));
        }
        for ((dtype, (tuning, as_gpu)), (pass, epilogue)) in product(
            &product(Dtype::ALL, &tunings),
            &product(&PASSES, Epilogue::ALL),
        ) {
            for (config, max_binding) in product(&options, &[None, Some(1024)]) {
                let plain = dtype == Dtype::F32 && epilogue == Epilogue::Identity;
                let first = config == options[0] && (max_binding.is_none() || lottery.one_in(4));
                let basic = plain && first && PASSES[..2].contains(&pass);
                let drawn = settings.one_in(one_in) && lottery.one_in(4);
                if basic || drawn {
                    let problem = Problem::new(shape, dtype);
                    let mut line = Line::new(problem, &config.epilogue(epilogue), pass);
                    line.common = line
                        .common
                        .tuning(tuning)
                        .as_gpu(as_gpu)
                        .max_binding(max_binding);
                    cases.push(InstanceCase { line });
                }
            }
        }
    }
    cases.sort_by_cached_key(InstanceCase::kernels);
    cases
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
