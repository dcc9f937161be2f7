//! From training to deployment: what a network with BatchNorm goes through after its last epoch, with the accuracy at each
//! step.
//!
//! The network learns handwritten digits and is saved. Another process trains it on, with the same bits. Its statistics are
//! recomputed over all training images, it is adapted to images under another light in four ways, and its norms are folded
//! into the convolutions.
//!
//! ```text
//! cargo run --release --example deploy
//! ```

#[path = "../train_digits/data.rs"]
mod data;
#[path = "../shared/exit.rs"]
mod exit;
mod network;
mod ops;
#[path = "../train_digits/random.rs"]
mod random;
mod store;
mod training;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Parser;
use wgpu_norm::batch_norm::Freeze;
use wgpu_norm::fold::{Weights, fold};
use wgpu_norm::state::StateFile;
use wgpu_norm::{BatchNorm, Gpu};

use data::{CLASSES, Digits};
use network::{Network, Norm};
use ops::Ops;
use random::Random;
use training::{Images, Training};

const LEARNING_RATE: f32 = 0.1;
/// Fine-tuning changes less.
const FINE: f32 = 0.01;

/// Train, save, resume, adapt, fold and evaluate a network with BatchNorm.
#[derive(Parser)]
struct Arguments {
    /// Epochs before the training is saved, and after that
    #[arg(long, default_value_t = 4)]
    epochs: usize,
    /// Seed of the initial weights and of the order of the images
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Go on from this file, save to it, and do nothing else
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

fn main() -> ExitCode {
    exit::code(run(&Arguments::parse(), &mut io::stdout()))
}

fn row(out: &mut impl Write, what: &str, accuracy: f64) -> io::Result<()> {
    writeln!(out, "{what:<58} {accuracy:>7.2} %")
}

fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    let digits = Digits::load()?;
    let [training, test] = [&digits.training, &digits.test].map(|split| Images::of(&digits, split));
    let mut random = Random::new(arguments.seed);
    let mut network = Network::new(Ops::new(&Gpu::open()?), &mut random)?;
    let mut trainer = Training {
        seed: arguments.seed,
        epochs: 0,
    };
    if let Some(file) = &arguments.resume {
        store::load(file, &mut network, &mut trainer)?;
        epochs(&mut trainer, &mut network, &training, arguments.epochs)?;
        store::file_of(&mut network, &trainer)?.write(file)?;
        return Ok(());
    }

    writeln!(out, "{:<58} {:>9}", "", "accuracy")?;
    epochs(&mut trainer, &mut network, &training, arguments.epochs)?;
    row(
        out,
        &format!("trained for {} epochs", arguments.epochs),
        accuracy(&network, &test)?,
    )?;

    let file = std::env::temp_dir().join(format!("deploy-{}.safetensors", std::process::id()));
    store::file_of(&mut network, &trainer)?.write(&file)?;
    let elsewhere = resume(&file, arguments);
    let removed = std::fs::remove_file(&file);
    let elsewhere = elsewhere?;
    removed?;
    epochs(&mut trainer, &mut network, &training, arguments.epochs)?;
    let here = store::file_of(&mut network, &trainer)?;
    ensure!(here == elsewhere, "the resumed training has other bits");
    row(
        out,
        &format!(
            "{} more, here and in another process: the same bits",
            arguments.epochs
        ),
        accuracy(&network, &test)?,
    )?;

    network.recompute_statistics(&training.pixels, 100)?;
    row(
        out,
        "with the statistics of all training images",
        accuracy(&network, &test)?,
    )?;
    let trained = store::file_of(&mut network, &trainer)?;

    alone(&network, &test)?;
    writeln!(
        out,
        "an image alone and in a batch of {}: the same bits",
        test.len()
    )?;

    let [shifted, shifted_test] = [&training, &test].map(Images::shifted);
    writeln!(
        out,
        "\nunder another light: {:.1} deviations of drift at most, {:.1} before",
        network.drift(&shifted.pixels)?,
        network.drift(&training.pixels)?
    )?;
    row(out, "  as it is", accuracy(&network, &shifted_test)?)?;
    network.recompute_statistics(&shifted.pixels, 100)?;
    row(
        out,
        "  with the statistics of those images, without gradients",
        accuracy(&network, &shifted_test)?,
    )?;
    for (what, freeze) in [
        ("  fine-tuned, all frozen in the norms", Freeze::ALL),
        (
            "  fine-tuned, their statistics frozen",
            Freeze::default().statistics(true),
        ),
        ("  fine-tuned, nothing frozen", Freeze::default()),
    ] {
        store::restore(&trained, &mut network, &mut trainer)?;
        network.norms().try_for_each(|norm| norm.freeze(freeze))?;
        for _ in 0..2 {
            trainer.epoch(&mut network, &shifted, FINE)?;
        }
        row(out, what, accuracy(&network, &shifted_test)?)?;
    }

    writeln!(out)?;
    let before = network.logits(&shifted_test.pixels)?;
    for block in &mut network.blocks {
        if let Norm::Batch { layer, .. } = &block.norm {
            let (weight, bias) = folded(
                &network.ops.gpu,
                &block.conv.value,
                layer,
                block.inputs,
                block.outputs,
            )?;
            block.conv.value = network.ops.upload(&weight);
            block.norm = Norm::Folded(network.ops.upload(&bias));
        }
    }
    let after = network.logits(&shifted_test.pixels)?;
    let largest = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, f32::max);
    let error = largest(&mut before.iter().zip(&after).map(|(a, b)| (a - b).abs()));
    let size = largest(&mut before.iter().map(|logit| logit.abs()));
    ensure!(error <= 1e-4 * size, "folding changed a logit by {error}");
    row(
        out,
        "  folded into the convolutions",
        accuracy(&network, &shifted_test)?,
    )?;
    writeln!(
        out,
        "  largest change of a logit by folding: {error:.1e}, of {size:.0}"
    )?;
    Ok(())
}

fn epochs(
    trainer: &mut Training,
    network: &mut Network,
    images: &Images,
    count: usize,
) -> anyhow::Result<()> {
    (0..count).try_for_each(|_| trainer.epoch(network, images, LEARNING_RATE))
}

fn accuracy(network: &Network, images: &Images) -> anyhow::Result<f64> {
    network.accuracy(&images.pixels, &images.labels)
}

/// The training of a file, gone on with in a process of its own.
fn resume(file: &Path, arguments: &Arguments) -> anyhow::Result<StateFile> {
    let status = Command::new(std::env::current_exe()?)
        .arg("--resume")
        .arg(file)
        .args(["--epochs", &arguments.epochs.to_string()])
        .args(["--seed", &arguments.seed.to_string()])
        .status()
        .context("the second process")?;
    ensure!(status.success(), "the second process failed");
    Ok(StateFile::read(file)?)
}

/// In evaluation what becomes of an image does not depend on the others.
fn alone(network: &Network, images: &Images) -> anyhow::Result<()> {
    let together = network.logits(&images.pixels)?;
    for (index, together) in together.chunks(CLASSES).enumerate().step_by(20) {
        let alone = network.logits(images.image(index))?;
        ensure!(
            alone == together,
            "image {index} has other logits in a batch"
        );
    }
    Ok(())
}

/// A convolution's weights `[3][3][inputs][outputs]` with a norm folded into them, and the bias that this leaves.
fn folded(
    gpu: &Gpu,
    weight: &wgpu::Buffer,
    norm: &BatchNorm,
    inputs: usize,
    outputs: usize,
) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
    let taps = 9 * inputs;
    let weight = gpu.read_f32(weight.slice(..))?;
    // As a linear layer of all taps: `[outputs, taps]`.
    let rows: Vec<f32> = (0..outputs * taps)
        .map(|i| weight[i % taps * outputs + i / taps])
        .collect();
    let folded = fold(
        Weights::new(&[outputs, taps], &rows),
        norm.config(),
        &norm.state()?,
    )?;
    let columns = (0..taps * outputs).map(|i| folded.weight[i % outputs * taps + i / outputs]);
    Ok((columns.collect(), folded.bias))
}
