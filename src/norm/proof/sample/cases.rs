//! What is tried: shapes, with every way to solve a problem on them.

use super::case::{Oracle, SampleCase};
use crate::dtype::{Dtype, Problem};
use crate::norm::options::{Destination, Epilogue, ParameterGradients};
use crate::norm::proof::shapes::{CPU_TILE, GPU_TILES, Lottery, product};
use crate::norm::proof::{Case, caps};
use crate::norm::sample::{Line, Members, Pass};
use crate::norm::tuning::{Strategy, Tuning};
use crate::shape::Shape;

const OUT: Option<Destination> = Some(Destination::OutOfPlace);
const IN: Option<Destination> = Some(Destination::InPlace);

const fn backward(dx: Option<Destination>, parameters: ParameterGradients) -> Pass {
    Pass::Backward { dx, parameters }
}

/// The first two are basic: all shapes and strategies are tried. Of the others a sample is.
const PASSES: [Pass; 5] = [
    Pass::Forward,
    backward(OUT, ParameterGradients::Overwrite),
    backward(IN, ParameterGradients::Accumulate),
    backward(None, ParameterGradients::Overwrite),
    backward(OUT, ParameterGradients::Skip),
];

/// Whether the environment names one case, as a failing test prints it.
pub fn alone() -> bool {
    std::env::var_os("WGPU_NORM_LINE").is_some()
}

/// Every shape with every strategy; of the product with storage types, epilogues, configurations and bindings one in
/// `one_in`. `configs` are those of a shape, the usual one first. The lines that are `named` exist, and come first.
pub fn cases<C: Oracle, const N: usize>(
    shapes: impl IntoIterator<Item = Shape>,
    configs: impl Fn(Shape) -> [C; N],
    named: &[&str],
    one_in: u64,
) -> Vec<SampleCase<C>> {
    if let Ok(line) = std::env::var("WGPU_NORM_LINE") {
        // A line of another norm is none of these tests' business.
        return line.parse().into_iter().collect();
    }
    let named = named.iter().map(|line| {
        let case: SampleCase<C> = line.parse().expect("a line");
        assert!(case.program(&caps()).is_some(), "{line} does not exist");
        case
    });
    let mut cases: Vec<_> = named.collect();
    let mut lottery = Lottery::default();
    for (index, shape) in shapes.into_iter().enumerate() {
        let configs = configs(shape);
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
            for (config, (max_binding, prenorm)) in
                product(&configs, &product(&[None, Some(1024)], &[false, true]))
            {
                let plain = dtype == Dtype::F32 && epilogue == Epilogue::Identity;
                let first = config == configs[0] && (max_binding.is_none() || lottery.one_in(4));
                let basic = plain && first && !prenorm && PASSES[..2].contains(&pass);
                let drawn = lottery.one_in(8 * one_in);
                if basic || drawn {
                    let problem = Problem::new(shape, dtype);
                    let mut line = Line::new(
                        problem,
                        &config.with_members(Members {
                            epilogue,
                            ..config.members()
                        }),
                        pass,
                    );
                    line.prenorm = prenorm;
                    line.common = line
                        .common
                        .tuning(tuning)
                        .as_gpu(as_gpu)
                        .max_binding(max_binding);
                    cases.push(SampleCase { line });
                }
            }
        }
    }
    cases
}
