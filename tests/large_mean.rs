//! A mean far above the deviation, where E[x^2] - E[x]^2 has nothing left: the device is held to what torch
//! reaches in the same precision on the same input.

use crate::common::{blank, download, gpu, upload, wide};
use safetensors::SafeTensors;
use serde::Deserialize;
use wgpu_norm::batch_norm::{Strategy, Tile, TrainBuffers, TrainOptions, TrainPlan, Tuning};
use wgpu_norm::reference::batch_norm as oracle;
use wgpu_norm::{BatchNormConfig, Shape};

/// What `tests/fixtures/make.py` measured of torch.
#[derive(Deserialize)]
struct Float32Error {
    line: String,
    largest: f64,
    mean: f64,
}

#[test]
fn at_a_mean_of_ten_thousand_deviations_y_is_as_exact_as_torch() {
    let file = include_bytes!("fixtures/torch.safetensors");
    let (_, header) = SafeTensors::read_metadata(file).unwrap();
    let torch: Float32Error =
        serde_json::from_str(&header.metadata().as_ref().unwrap()["float32_error"]).unwrap();
    let shape: Shape = torch.line.parse().unwrap();
    // The generator of `fixtures/make.py`, whose seeding differs from `reference::noise`.
    let mut state = 1u64;
    let x: Vec<f32> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let draw = (state >> 40) as f64 / f64::from(1 << 23) - 1.0;
        (1e4 + 3f64.sqrt() * draw) as f32
    })
    .take(shape.elements().unwrap())
    .collect();
    let exact = oracle::train(shape, &wide(&x), None, None, f64::from(1e-5f32)).y;

    let gpu = gpu();
    for &strategy in Strategy::ALL {
        let config = BatchNormConfig::new(shape.channels())
            .affine(false)
            .track_running_stats(false);
        // So many registers as the resident strategy needs, on processors too.
        let tuning = Tuning::default()
            .strategy(Some(strategy))
            .tile(Some(Tile::new(256, 32)));
        let plan = TrainPlan::with_options(
            gpu.kernels(),
            shape,
            &config,
            TrainOptions::default().tuning(tuning),
        )
        .unwrap();
        let (x, y) = (upload(&gpu, &x), blank(&gpu, plan.activation_bytes()));
        let saved = blank(&gpu, plan.saved_bytes());
        let scratch = blank(&gpu, plan.scratch_bytes());
        let step = plan
            .bind(
                &TrainBuffers::new(x.slice(..), y.slice(..), saved.slice(..))
                    .scratch(scratch.slice(..)),
            )
            .unwrap();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        step.encode(&mut encoder);
        gpu.queue().submit([encoder.finish()]);
        let y = download(&gpu, &y, exact.len());
        let errors: Vec<f64> = y
            .iter()
            .zip(&exact)
            .map(|(&y, exact)| (f64::from(y) - exact).abs())
            .collect();
        let largest = errors.iter().copied().fold(0.0, f64::max);
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        println!(
            "{}: largest error {largest:.2e}, mean {mean:.2e}; torch {:.2e}, {:.2e}",
            strategy.name(),
            torch.largest,
            torch.mean
        );
        assert!(largest <= torch.largest && mean <= torch.mean);
    }
}
