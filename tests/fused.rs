//! Fused epilogues and narrow storage types, as a user of the layer meets them.

use crate::common::{gpu, noise, noop_kernels, wide};
use half::{bf16, f16};
use wgpu_norm::batch_norm::{
    BackwardOptions, BackwardPlan, Destination, Epilogue, EvalOptions, EvalPlan,
    ParameterGradients, TrainPlan,
};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::reference::compare::{Bound, within};
use wgpu_norm::{BatchNorm, BatchNormConfig, Dtype, Error, Gpu, PlanError, Problem, Shape, Tensor};

fn layer(gpu: &Gpu, channels: usize, epilogue: Epilogue) -> BatchNorm {
    let mut bn = BatchNormConfig::new(channels)
        .epilogue(epilogue)
        .build(gpu)
        .unwrap();
    let weight = noise(7, channels).iter().map(|v| v + 1.5).collect();
    let mut state = bn.state().unwrap();
    (state.weight, state.bias) = (Some(weight), Some(noise(8, channels)));
    bn.load_state(&state).unwrap();
    bn
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.read().unwrap().iter().map(|v| v.to_bits()).collect()
}

/// The nearest value of a storage type.
fn stored(dtype: Dtype, value: f32) -> f32 {
    dtype.unpack(&dtype.pack(&[value]))[0]
}

const SHAPES: [Shape; 5] = [
    Shape::nchw(3, 5, 7, 7),
    Shape::nhwc(3, 7, 7, 5),
    Shape::nchw(2, 20, 8, 8),
    Shape::nc(33, 12),
    Shape::ndhwc(1, 2, 3, 5, 16),
];

#[test]
fn fused_results_have_the_bits_of_unfused_ones() {
    let gpu = gpu();
    for shape in SHAPES {
        for &dtype in Dtype::ALL {
            let (channels, count) = (shape.channels(), shape.elements().unwrap());
            let tensor = |seed| {
                gpu.tensor(Problem::new(shape, dtype), &noise(seed, count))
                    .unwrap()
            };
            let (x, residual, dy) = (tensor(1), tensor(2), tensor(3));
            let mut plain = layer(&gpu, channels, Epilogue::Identity);
            let mut relu = layer(&gpu, channels, Epilogue::Relu);
            let mut add_relu = layer(&gpu, channels, Epilogue::AddRelu);

            let (normalized, plain_saved) = plain.train(&x).unwrap();
            let normalized = normalized.read().unwrap();
            let (fused, saved) = relu.train(&x).unwrap();
            let unfused: Vec<f32> = normalized.iter().map(|v| v.max(0.0)).collect();
            assert_eq!(fused.read().unwrap(), unfused, "{shape} {dtype}");
            assert_eq!(relu.state().unwrap(), plain.state().unwrap());

            // Backward, as if ReLU's own had masked dy.
            let masked: Vec<f32> = dy.read().unwrap();
            let masked: Vec<f32> = masked
                .iter()
                .zip(&unfused)
                .map(|(dy, y)| if *y > 0.0 { *dy } else { 0.0 })
                .collect();
            let masked = gpu.tensor(Problem::new(shape, dtype), &masked).unwrap();
            let expected = plain.backward(plain_saved, &masked).unwrap();
            let gradients = relu.backward(saved, &dy).unwrap();
            assert_eq!(bits(&gradients.dx), bits(&expected.dx), "{shape} {dtype}");
            assert_eq!(gradients.weight().unwrap(), expected.weight().unwrap());
            assert_eq!(gradients.bias().unwrap(), expected.bias().unwrap());

            assert_eq!(
                bits(&relu.eval(&x).unwrap()),
                plain
                    .eval(&x)
                    .unwrap()
                    .read()
                    .unwrap()
                    .iter()
                    .map(|v| v.max(0.0).to_bits())
                    .collect::<Vec<_>>()
            );

            // The sum is rounded once, not twice, so that only f32 has the same bits.
            let (fused, saved) = add_relu.train((&x, &residual)).unwrap();
            let fused = fused.read().unwrap();
            let sums = normalized
                .iter()
                .zip(residual.read().unwrap())
                .map(|(n, r)| (n + r).max(0.0));
            if dtype == Dtype::F32 {
                assert_eq!(fused, sums.collect::<Vec<_>>(), "{shape}");
            }
            let gradients = add_relu.backward(saved, &dy).unwrap();
            let expected: Vec<f32> = dy
                .read()
                .unwrap()
                .iter()
                .zip(&fused)
                .map(|(dy, y)| if *y > 0.0 { *dy } else { 0.0 })
                .collect();
            assert_eq!(
                gradients.dresidual.unwrap().read().unwrap(),
                expected,
                "{shape} {dtype}"
            );
        }
    }
}

#[test]
fn nan_passes_through_relu_as_through_torchs() {
    let gpu = gpu();
    let shape = Shape::nchw(2, 2, 4, 4);
    let mut x = noise(1, 64);
    x[3] = f32::NAN;
    let bn = layer(&gpu, 2, Epilogue::Relu);
    let y = bn
        .eval(&gpu.tensor(shape, &x).unwrap())
        .unwrap()
        .read()
        .unwrap();
    assert!(y[3].is_nan());
    assert_eq!(y.iter().filter(|v| v.is_nan()).count(), 1);
}

/// The position of a value among those of its storage type, so that neighbours differ by one.
fn rank(dtype: Dtype, value: f32) -> i64 {
    let (bits, sign) = match dtype {
        Dtype::F32 => (i64::from(value.to_bits()), 1 << 31),
        Dtype::F16 => (i64::from(f16::from_f32(value).to_bits()), 1 << 15),
        _ => (i64::from(bf16::from_f32(value).to_bits()), 1 << 15),
    };
    if bits & sign != 0 { sign - bits } else { bits }
}

#[test]
fn outputs_are_within_one_ulp_of_the_rounded_truth() {
    let gpu = gpu();
    // Ordinary values; near the largest of f16; subnormals of f16; a mean of 300 with a deviation of 20.
    // Each with its centre and its spread.
    let inputs = [
        ("ordinary", 0.0, 1.0),
        ("near 65504", 65_000.0, 500.0),
        ("subnormal", 0.0, 5e-5),
        ("mean 300", 300.0, 35.0),
    ];
    let shape = Shape::nchw(4, 8, 31, 33);
    let count = shape.elements().unwrap();
    for dtype in [Dtype::F16, Dtype::Bf16] {
        for (name, centre, spread) in inputs {
            let x: Vec<f32> = noise(1, count)
                .into_iter()
                .map(|v| stored(dtype, centre + spread * v))
                .collect();
            let mut bn = layer(&gpu, 8, Epilogue::Identity);
            let before = bn.state().unwrap();
            let (weight, bias) = (wide(&before.weight.unwrap()), wide(&before.bias.unwrap()));
            let (y, _) = bn
                .train(&gpu.tensor(Problem::new(shape, dtype), &x).unwrap())
                .unwrap();
            let eps = f64::from(bn.config().eps);
            let forward = oracle::train(shape, &wide(&x), Some(&weight), Some(&bias), eps);
            let mut histogram = [0usize; 3];
            for (actual, expected) in y.read().unwrap().into_iter().zip(&forward.y) {
                let expected = match dtype {
                    Dtype::F16 => f16::from_f64(*expected).to_f32(),
                    _ => bf16::from_f64(*expected).to_f32(),
                };
                let ulps = (rank(dtype, actual) - rank(dtype, expected)).unsigned_abs() as usize;
                // Next to zero, an ulp is far below the rounding of f32's own terms.
                let tiny = (actual - expected).abs() < 1e-6;
                histogram[if tiny { ulps.min(1) } else { ulps.min(2) }] += 1;
            }
            println!(
                "{dtype} {name}: 0 ulp {}, 1 ulp {}, more {}",
                histogram[0], histogram[1], histogram[2]
            );
            assert_eq!(histogram[2], 0, "{dtype} {name}");
            assert!(histogram[1] * 100 < count, "{dtype} {name}: {histogram:?}");

            let running = bn.state().unwrap();
            let mean: Vec<f64> = forward.mean.iter().map(|m| 0.1 * m).collect();
            let largest = x.iter().fold(0f32, |most, v| most.max(v.abs()));
            let bound = Bound::new(1e-6, 2e-8 * f64::from(largest));
            within("running_mean", &running.running_mean.unwrap(), &mean, bound).unwrap();
        }
    }
}

#[test]
fn what_overflows_becomes_infinite_and_leaves_its_neighbours_alone() {
    let gpu = gpu();
    let shape = Shape::nc(4, 3);
    let mut bn = BatchNormConfig::new(3).build(&gpu).unwrap();
    let mut state = bn.state().unwrap();
    state.weight = Some(vec![1.0, 1e6, -1e6]);
    state.bias = Some(vec![0.5, 0.0, 0.0]);
    bn.load_state(&state).unwrap();
    let x = gpu
        .tensor(Problem::new(shape, Dtype::F16), &noise(3, 12))
        .unwrap();
    let (y, _) = bn.train(&x).unwrap();
    let (wide_y, _) = bn
        .train(&gpu.tensor(shape, &x.read().unwrap()).unwrap())
        .unwrap();
    for (narrow, wide) in y.read().unwrap().into_iter().zip(wide_y.read().unwrap()) {
        assert_eq!(narrow, f16::from_f32(wide).to_f32());
    }
    assert_eq!(
        y.read().unwrap().iter().filter(|v| v.is_infinite()).count(),
        8
    );
}

#[test]
fn between_forward_and_backward_only_the_input_is_held() {
    let gpu = gpu();
    let shape = Shape::nchw(8, 16, 10, 10);
    let count = shape.elements().unwrap();
    for &dtype in Dtype::ALL {
        let x = gpu
            .tensor(Problem::new(shape, dtype), &noise(1, count))
            .unwrap();
        let tensor = dtype.bytes() * count as u64;
        let statistics = 12 * 16;
        for (epilogue, tensors) in [
            (Epilogue::Identity, 1),
            (Epilogue::Relu, 1),
            (Epilogue::AddRelu, 2),
        ] {
            let mut bn = layer(&gpu, 16, epilogue);
            let (_, saved) = if epilogue.adds() {
                bn.train((&x, &x))
            } else {
                bn.train(&x)
            }
            .unwrap();
            assert_eq!(saved.held_bytes(), tensors * tensor + statistics);
        }
    }
}

#[test]
fn residuals_and_epilogues_must_match() {
    let gpu = gpu();
    let (shape, x) = (Shape::nc(4, 2), noise(1, 8));
    let x = gpu.tensor(shape, &x).unwrap();
    let mut plain = layer(&gpu, 2, Epilogue::Relu);
    let mut adding = layer(&gpu, 2, Epilogue::AddRelu);
    for result in [
        plain.train((&x, &x)).map(drop),
        adding.train(&x).map(drop),
        adding.frozen(&x).map(drop),
    ] {
        let message = result.unwrap_err().to_string();
        assert!(message.starts_with("residual: is "), "{message}");
    }
    let narrow = gpu
        .tensor(Problem::new(shape, Dtype::F16), &noise(1, 8))
        .unwrap();
    let message = adding
        .train((&x, &narrow))
        .map(drop)
        .unwrap_err()
        .to_string();
    assert_eq!(message, "residual: expected n4c2 nc f32, got n4c2 nc f16");
    let (_, saved) = adding.train((&x, &x)).unwrap();
    let refused = adding.backward(saved, &narrow).map(drop).unwrap_err();
    assert!(matches!(refused.error, Error::Tensor(_)), "{refused}");
}

/// The table of combinations in the documentation of `batch_norm`, row by row. Plans are refused before a driver
/// sees their kernels, so that none is needed.
#[test]
fn the_table_of_supported_combinations_holds() {
    let page = include_str!("../src/batch_norm/mod.rs");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("//! | ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").map(str::trim).collect())
        .skip(1)
        .collect();
    let kernels = &noop_kernels();
    let mut checked = 0;
    for row in &rows {
        let [what, statistics, place, supported] = row[..] else {
            panic!("{row:?}")
        };
        let batch = match statistics {
            "batch" => true,
            "running" => false,
            other => panic!("{other}"),
        };
        let place = match place {
            "out of place" => Some(Destination::OutOfPlace),
            "in place" => Some(Destination::InPlace),
            "none" => None,
            other => panic!("{other}"),
        };
        for &dtype in Dtype::ALL {
            for &epilogue in Epilogue::ALL {
                for shape in SHAPES {
                    let problem = Problem::new(shape, dtype);
                    let config = BatchNormConfig::new(shape.channels()).epilogue(epilogue);
                    let parameters = [
                        ParameterGradients::Skip,
                        ParameterGradients::Overwrite,
                        ParameterGradients::Accumulate,
                    ];
                    let results: Vec<Result<(), PlanError>> = match (what, place) {
                        ("forward", Some(Destination::OutOfPlace)) if batch => {
                            vec![TrainPlan::new(kernels, problem, &config).map(drop)]
                        }
                        ("forward", Some(y)) => {
                            let config = config.track_running_stats(!batch);
                            let options = EvalOptions::default().y(y);
                            vec![
                                EvalPlan::with_options(kernels, problem, &config, options)
                                    .map(drop),
                            ]
                        }
                        ("backward", dx) => parameters
                            .iter()
                            .filter(|&&p| dx.is_some() || p != ParameterGradients::Skip)
                            .map(|&parameters| {
                                let options = BackwardOptions::default()
                                    .frozen(!batch)
                                    .dx(dx)
                                    .parameters(parameters);
                                BackwardPlan::with_options(kernels, problem, &config, options)
                                    .map(drop)
                            })
                            .collect(),
                        other => panic!("{other:?}"),
                    };
                    for result in results {
                        match supported {
                            "yes" => assert_eq!(result, Ok(()), "{row:?} {problem} {epilogue:?}"),
                            "`Unsupported`" => assert!(
                                matches!(result, Err(PlanError::Unsupported { .. })),
                                "{row:?} {problem} {epilogue:?}"
                            ),
                            other => panic!("{other}"),
                        }
                        checked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(rows.len(), 10);
    assert!(checked > 500, "{checked}");
}
