//! Whether the gradients are right, and whether descending them learns.

use clap::ValueEnum;
use wgpu_norm::{Dtype, Gpu};

use crate::batch::{Batch, DataSet};
use crate::block::Mode;
use crate::data::Digits;
use crate::network::Network;
use crate::program::download;
use crate::random::Random;
use crate::settings::{Settings, WhichNorm};
use crate::training::Trainer;

fn settings(norm: WhichNorm, batch: usize) -> Settings {
    Settings {
        norm,
        dtype: Dtype::F32,
        learning_rate: 0.1,
        batch,
        seed: 3,
        ranks: None,
    }
}

#[test]
fn the_split_has_every_image_once() {
    let digits = Digits::load().unwrap();
    let mut all = [digits.training, digits.test].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..1797));
    assert_eq!(digits.pixels.len(), 64 * 1797);
}

/// For each parameter, the slope of the loss in a random direction must be what the gradient says.
fn check_gradients(norm: WhichNorm) {
    // Small, as the loss has a kink wherever ReLU or a maximum switches, of which there are thousands.
    const STEP: f32 = 1e-4;
    const TOLERANCE: f64 = 0.05;

    let gpu = Gpu::open().unwrap();
    let mut random = Random::new(5);
    let mut digits = Digits::load().unwrap();
    // The digits' borders are black and would hide mistakes at the border of a convolution.
    digits.pixels.fill_with(|| random.normal());
    let images = &digits.training[..32];
    let data = DataSet::new(&gpu, &digits);
    let network = Network::new(&gpu, &settings(norm, images.len()), &mut random).unwrap();
    let batch = Batch::new(&gpu, &data, &network, Mode::Train, images.len()).unwrap();

    for (index, parameter) in network.parameters().into_iter().enumerate() {
        let value: Vec<f32> = download(&gpu, &parameter.value).unwrap();
        let direction: Vec<f32> = value.iter().map(|_| random.normal()).collect();
        let loss_at = |step: f32| {
            let moved: Vec<f32> = value
                .iter()
                .zip(&direction)
                .map(|(v, d)| v + step * d)
                .collect();
            gpu.queue()
                .write_buffer(&parameter.value, 0, bytemuck::cast_slice(&moved));
            batch.submit(images).unwrap();
            batch.take_score(1).unwrap().loss
        };
        let measured = (loss_at(STEP) - loss_at(-STEP)) / f64::from(2.0 * STEP);

        loss_at(0.0);
        let gradient: Vec<f32> = download(&gpu, &parameter.gradient).unwrap();
        let along = |other: &[f32]| -> f64 {
            gradient
                .iter()
                .zip(other)
                .map(|(g, o)| f64::from(g * o))
                .sum()
        };
        let computed = along(&direction);
        let length = along(&gradient).sqrt();
        assert!(
            (computed - measured).abs() < TOLERANCE * length,
            "parameter {index}, norm {norm}: {computed}, but {measured} measured"
        );
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for &norm in WhichNorm::value_variants() {
        check_gradients(norm);
    }
}

#[test]
fn the_loss_falls() {
    let gpu = Gpu::open().unwrap();
    // The gradients of the others are checked above.
    for norm in [WhichNorm::Batch, WhichNorm::Group, WhichNorm::None] {
        let mut trainer = Trainer::new(&gpu, Digits::load().unwrap(), &settings(norm, 64)).unwrap();
        let losses = [(); 3].map(|()| trainer.epoch().unwrap().loss);
        assert!(losses[2] < 0.5 * losses[0], "{norm}: {losses:?}");
    }
}
