//! Trains a small convolutional network on handwritten digits, every step of it on the GPU.
//!
//! The convolutions, the loss and the descent are shaders of this example; the norm between them is
//! the library's, recorded into the same compute pass. A step is one submission, and only an epoch's
//! score is read back.
//!
//! ```text
//! cargo run --release --example train_digits
//! cargo run --release --example train_digits -- --norm group --batch 2
//! cargo run --release --example train_digits -- --norm none --lr 0.3
//! ```

mod batch;
mod block;
mod data;
#[path = "../shared/exit.rs"]
mod exit;
mod layers;
mod network;
mod norm;
mod parameter;
mod program;
mod progress;
mod random;
mod settings;
mod synchronized;
#[cfg(test)]
mod tests;
mod training;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use clap::Parser;
use clap::builder::RangedU64ValueParser;
use wgpu_norm::{Dtype, Gpu};

use data::{Digits, TRAINING};
use progress::Progress;
use settings::{Settings, WhichNorm};
use training::Trainer;

/// Train a small convolutional network on handwritten digits, on the GPU.
#[derive(Parser)]
struct Arguments {
    /// What follows the convolutions
    #[arg(long, value_enum, default_value = "batch")]
    norm: WhichNorm,
    /// What the convolutions' results are stored as, and what the norm makes of them: f32, f16 or bf16
    #[arg(long, default_value = "f32")]
    dtype: Dtype,
    /// Learning rate
    #[arg(long, default_value_t = 0.1, value_parser = positive)]
    lr: f32,
    /// How often every training image is seen
    #[arg(long, default_value_t = 15, value_parser = at_least_one())]
    epochs: usize,
    /// Seed of the initial weights and of the order of the images
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Images in a batch
    #[arg(long, default_value_t = 64, value_parser = at_least_one().range(..=TRAINING as u64))]
    batch: usize,
    /// Fail if less than this share of the test images is named right
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    min_accuracy: Option<f64>,
}

fn at_least_one() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

fn positive(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && f32::is_finite(value) => Ok(value),
        _ => Err("not a positive number".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("not a number from 0 to 100".to_owned()),
    }
}

fn main() -> ExitCode {
    exit::code(run(&Arguments::parse(), &mut io::stdout()))
}

fn run(arguments: &Arguments, out: &mut impl Write) -> anyhow::Result<()> {
    if arguments.norm == WhichNorm::None && arguments.dtype != Dtype::F32 {
        bail!("--dtype: without a norm only f32 is stored");
    }
    let gpu = Gpu::open()?;
    let settings = Settings {
        norm: arguments.norm,
        dtype: arguments.dtype,
        learning_rate: arguments.lr,
        batch: arguments.batch,
        seed: arguments.seed,
        ranks: None,
    };
    let mut trainer = Trainer::new(&gpu, Digits::load()?, &settings)?;

    let progress = Progress::new(arguments.epochs);
    let start = Instant::now();
    let mut epochs = 0;
    let mut diverged = false;
    while epochs < arguments.epochs && !diverged {
        let score = trainer.epoch()?;
        epochs += 1;
        diverged = !score.loss.is_finite();
        progress.epoch(epochs, score, out)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    progress.finish();

    // Weights that are not numbers still name some digit, but that is no accuracy to report.
    let accuracy = if diverged {
        None
    } else {
        Some(trainer.test()?.accuracy)
    };
    let with = format!("norm {} and batches of {}", arguments.norm, arguments.batch);
    match accuracy {
        Some(accuracy) => writeln!(out, "test accuracy  {accuracy:.2} %, with {with}")?,
        None => writeln!(
            out,
            "test accuracy  none: diverged in epoch {epochs}, with {with}"
        )?,
    }
    writeln!(
        out,
        "training       {seconds:.1} s, {} steps",
        epochs * trainer.steps()
    )?;
    writeln!(out, "adapter        {}", gpu.adapter_name())?;

    match arguments.min_accuracy {
        Some(least) if accuracy.is_none_or(|accuracy| accuracy < least) => {
            bail!("less than {least} % of the test images were named right")
        }
        _ => Ok(()),
    }
}
