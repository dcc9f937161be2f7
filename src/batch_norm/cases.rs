//! What is tried: shapes, with every way to solve a problem on them.

use super::config::BatchNormConfig;
use super::options::{BackwardOptions, Destination, Epilogue, EvalOptions, ParameterGradients};
use super::params::Params;
use super::tuning::{Strategy, Tuning};
use super::{plan, plan_pieces};
use crate::dtype::{Dtype, Problem};
use crate::error::PlanError;
use crate::gpu::Caps;
use crate::gpu::program::Program;
use crate::shape::Shape;
use crate::shared::walk::Tile;

/// Extents around the tiles below, in scalars and vectors of 4; primes; the smallest; rows that are no
/// whole vectors.
const EXTENTS: [&str; 33] = [
    "n2c1",
    "n7c3",
    "n9c31",
    "n5c32",
    "n6c33",
    "n3c130",
    "n64c4",
    "n9c12",
    "n2c3l1",
    "n3c5l2",
    "n2c7l3",
    "n4c3l4",
    "n3c2l31",
    "n3c2l32",
    "n2c3l33",
    "n1c3l127",
    "n1c4l128",
    "n2c3l129",
    "n1c1l1021",
    "n8c16h1w1",
    "n16c4h3w3",
    "n17c12h5w1",
    "n16c3h2w2",
    "n4c5h7w7",
    "n2c8h6w6",
    "n3c20h3w3",
    "n1c6h3w5",
    "n5c1h9w8",
    "n2c9h11w13",
    "n2c300h4w4",
    "n3c65h5w5",
    "n2c3d2h3w5",
    "n1c8d3h4w4",
];

/// Rows of 125 vectors, which are 16 columns for each of eight lanes: whole rows, rows of which two and four are whole
/// vectors, and planes in columns.
const WIDE_EXTENTS: [&str; 4] = ["n9c500", "n6c250", "n5c125", "n16c20h5w5"];

/// The first of them.
const WIDEST: Shape = Shape::nc(9, 500);

/// Workgroups of one group of lanes, as on processors.
const CPU_TILE: Tile = Tile {
    workgroup: 8,
    lanes: 8,
    columns: 2,
};
const WIDE_TILE: Tile = Tile {
    columns: 16,
    ..CPU_TILE
};

/// Workgroups of several, as on GPUs.
const GPU_TILES: [Tile; 2] = [
    Tile {
        workgroup: 64,
        lanes: 32,
        columns: 1,
    },
    Tile {
        workgroup: 256,
        lanes: 4,
        columns: 1,
    },
];

/// The properties of a device that plans without one are made for.
pub const CAPS: Caps = Caps {
    cpu: true,
    cores: 8,
    wide_words: true,
    lanes: 8,
    max_workgroup: 256,
    max_groups: 65_535,
    max_binding: 1 << 27,
    storage_alignment: 256,
    uniform_alignment: 256,
};

/// The parts of a batch whose moments are combined.
pub const SETS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Train,
    Eval(Destination),
    Backward {
        frozen: bool,
        dx: Option<Destination>,
        parameters: ParameterGradients,
    },
    Stats,
    Combine,
    Finalize,
    Apply(Destination),
    BackwardReduce,
    BackwardApply(Destination),
}

impl Mode {
    const ALL: [Self; 19] = [
        Self::Train,
        Self::Eval(Destination::Apart),
        Self::backward(
            false,
            Some(Destination::Apart),
            ParameterGradients::Overwrite,
        ),
        Self::backward(
            true,
            Some(Destination::Apart),
            ParameterGradients::Overwrite,
        ),
        Self::Eval(Destination::InPlace),
        Self::backward(
            false,
            Some(Destination::InPlace),
            ParameterGradients::Accumulate,
        ),
        Self::backward(
            true,
            Some(Destination::InPlace),
            ParameterGradients::Accumulate,
        ),
        Self::backward(false, None, ParameterGradients::Overwrite),
        Self::backward(true, None, ParameterGradients::Accumulate),
        Self::backward(false, Some(Destination::Apart), ParameterGradients::Skip),
        Self::backward(true, Some(Destination::Apart), ParameterGradients::Skip),
        Self::Stats,
        Self::Combine,
        Self::Finalize,
        Self::Apply(Destination::Apart),
        Self::Apply(Destination::InPlace),
        Self::BackwardReduce,
        Self::BackwardApply(Destination::Apart),
        Self::BackwardApply(Destination::InPlace),
    ];

    const fn backward(
        frozen: bool,
        dx: Option<Destination>,
        parameters: ParameterGradients,
    ) -> Self {
        Self::Backward {
            frozen,
            dx,
            parameters,
        }
    }

    /// Whether the mode is in the four of which every case is run; of the others, a sample is.
    fn is_basic(self) -> bool {
        Self::ALL[..4].contains(&self)
    }
}

/// A problem, and how it is to be solved.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub shape: Shape,
    pub dtype: Dtype,
    pub config: BatchNormConfig,
    pub mode: Mode,
    tuning: Tuning,
    /// Planned as for a GPU, whatever the device is.
    gpu: bool,
    max_binding: u64,
}

impl Case {
    /// The program, or `None` for a case that does not exist: the strategy cannot serve the shape, or
    /// there are no running statistics to freeze.
    pub fn program(&self, caps: &Caps) -> Option<Program<Params>> {
        let caps = Caps {
            max_binding: self.max_binding,
            ..*caps
        };
        let caps = if self.gpu {
            Caps {
                cpu: false,
                wide_words: false,
                lanes: 32,
                ..caps
            }
        } else {
            caps
        };
        let problem = Problem::new(self.shape, self.dtype);
        let (config, tuning) = (&self.config, self.tuning);
        let program = match self.mode {
            Mode::Train => plan::train(&caps, problem, config, tuning),
            Mode::Eval(y) => plan::eval(&caps, problem, config, EvalOptions { y, tuning }),
            Mode::Backward {
                frozen,
                dx,
                parameters,
            } => {
                let options = BackwardOptions {
                    frozen,
                    dx,
                    parameters,
                    tuning,
                };
                plan::backward(&caps, problem, config, options)
            }
            Mode::Stats => plan_pieces::stats(&caps, problem, config, tuning),
            Mode::Combine => plan_pieces::combine(&caps, config, SETS as u32),
            Mode::Finalize => plan_pieces::finalize(&caps, config),
            Mode::Apply(y) => plan_pieces::apply(&caps, problem, config, y),
            Mode::BackwardReduce => plan_pieces::backward_reduce(&caps, problem, config, tuning),
            Mode::BackwardApply(dx) => plan_pieces::backward_apply(&caps, problem, config, dx),
        };
        match program {
            Ok(program) => Some(program),
            Err(
                PlanError::Strategy { .. }
                | PlanError::NoRunningStatistics
                | PlanError::Unsupported { .. }
                | PlanError::TooFewValues { .. }
                // Parameters larger than the small binding.
                | PlanError::Limit { .. },
            ) => None,
            Err(error) => panic!("{self:?}: {error}"),
        }
    }

    /// Whether the tensor is larger than a binding may be.
    pub fn is_windowed(&self) -> bool {
        self.dtype.bytes() * self.elements() as u64 > self.max_binding
    }

    pub fn elements(&self) -> usize {
        self.shape.elements().expect("a small shape")
    }
}

/// How much is tried.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// One in so many of the whole product of modes, storage types, epilogues, options and bindings.
    product: u64,
    /// One in so many of the basic cases with other options than the first.
    options: u64,
    /// Both tiles for GPUs on every shape, or by turns.
    tiles: usize,
}

/// Every shape in both layouts, with every strategy, tile, mode, storage type and option that it can be had with.
pub fn all_cases() -> Vec<Case> {
    cases_with(Effort {
        product: 97,
        options: 1,
        tiles: 2,
    })
}

/// As many of them as there is time to compile kernels for.
pub fn cases() -> Vec<Case> {
    cases_with(Effort {
        product: 293,
        options: 4,
        tiles: 1,
    })
}

/// Numbers at random, the same at every call (SplitMix64): whatever two settings are, some cases have both.
struct Lottery(u64);

impl Lottery {
    fn one_in(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).is_multiple_of(n)
    }
}

fn cases_with(effort: Effort) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lottery = Lottery(0);
    let narrow = shapes(&EXTENTS).into_iter().map(|shape| (shape, false));
    let wide = shapes(&WIDE_EXTENTS).into_iter().map(|shape| (shape, true));
    for (index, (shape, wide)) in narrow.chain(wide).enumerate() {
        let config = BatchNormConfig::new(shape.channels());
        let options = [
            config,
            config.bias(false).momentum(None),
            config.weight(false).eps(1e-3).momentum(Some(0.3)),
            config.affine(false).track_running_stats(false),
            config.affine(false).eps(0.5),
        ];
        let typed_tunings = product(Dtype::ALL, &tunings(index, wide, effort));
        for ((dtype, (tuning, gpu)), (mode, epilogue)) in
            product(&typed_tunings, &product(&Mode::ALL, &Epilogue::ALL))
        {
            for (config, max_binding) in product(&options, &[1 << 27, 1024]) {
                // Drivers have been seen to stumble over wide kernels: those of every type.
                let typed = shape == WIDEST && tuning.strategy == Some(Strategy::Split);
                let plain = (dtype == Dtype::F32 || typed) && epilogue == Epilogue::Identity;
                let often = (config == options[0] || lottery.one_in(effort.options))
                    && (max_binding > 1024 || lottery.one_in(4));
                if (plain && mode.is_basic() && often) || lottery.one_in(effort.product) {
                    cases.push(Case {
                        shape,
                        dtype,
                        config: config.epilogue(epilogue),
                        mode,
                        tuning,
                        gpu,
                        max_binding,
                    });
                }
            }
        }
    }
    cases
}

/// What plans are forced to on the shape of an index, and whether as for a GPU: every strategy on several tiles, and
/// what a plan for a GPU chooses by itself.
fn tunings(index: usize, wide: bool, effort: Effort) -> Vec<(Tuning, bool)> {
    let mut tiles = vec![(if wide { WIDE_TILE } else { CPU_TILE }, false)];
    if !wide {
        let by_turns = (0..effort.tiles).map(|turn| GPU_TILES[(index / 2 + turn) % 2]);
        tiles.extend(by_turns.map(|tile| (tile, true)));
    }
    let mut tunings = vec![(Tuning::default(), true)];
    for (strategy, (tile, gpu)) in product(&Strategy::ALL, &tiles) {
        let tuning = Tuning {
            strategy: Some(strategy),
            tile: Some(tile),
        };
        tunings.push((tuning, gpu));
    }
    tunings
}

fn product<A: Copy, B: Copy>(a: &[A], b: &[B]) -> Vec<(A, B)> {
    a.iter()
        .flat_map(|&a| b.iter().map(move |&b| (a, b)))
        .collect()
}

/// In both layouts.
fn shapes(extents: &[&str]) -> Vec<Shape> {
    extents
        .iter()
        .flat_map(|extents| {
            let first: Shape = extents.parse().expect("extents");
            let spatial = &first.to_string()[extents.len()..].trim_start()[2..].to_owned();
            let last = format!("{extents} n{spatial}c").parse().expect("extents");
            if first == last {
                vec![first]
            } else {
                vec![first, last]
            }
        })
        .collect()
}
