//! Trains the network of `train_digits` on several ranks, each with a part of the batch, over MPI.
//!
//! Every rank has the whole network. Their gradients are summed after each backward pass, and BatchNorm's statistics are
//! those of the whole batch, or with `--statistics local` of each rank's part. Only the first rank prints.
//!
//! ```text
//! cargo build --release --features mpi --example sync_digits
//! mpirun -n 4 target/release/examples/sync_digits
//! mpirun -n 4 target/release/examples/sync_digits --batch 32 --seeds 5 --statistics local
//! ```

mod batch;
mod block;
mod data;
mod layers;
mod network;
mod norm;
mod parameter;
mod program;
mod random;
mod settings;
mod synchronized;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::{Parser, ValueEnum};
use wgpu_norm::sync::{Group, GroupOptions, Mpi};
use wgpu_norm::{Dtype, Gpu};

use batch::{Batch, DataSet, Score};
use block::Mode;
use data::Digits;
use network::Network;
use random::Random;
use settings::{Ranks, Settings, WhichNorm};

/// Train a small convolutional network on handwritten digits, on several ranks over MPI.
#[derive(Parser)]
struct Arguments {
    /// Images in a batch, over all ranks
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// How often every training image is seen
    #[arg(long, default_value_t = 15)]
    epochs: usize,
    /// Learning rate
    #[arg(long, default_value_t = 0.1)]
    lr: f32,
    /// How many seeds are trained with, from 0 on
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Whose statistics BatchNorm takes
    #[arg(long, value_enum, default_value = "sync")]
    statistics: Statistics,
    /// Which images of a batch each rank gets
    #[arg(long, value_enum, default_value = "uneven")]
    shards: Shards,
    /// Fail if with any seed less than this share of the test images is named right
    #[arg(long, value_name = "PERCENT")]
    min_accuracy: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Statistics {
    /// Those of the whole batch
    Sync,
    /// Those of each rank's part; the first rank's are tested with
    Local,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Shards {
    /// Any images, on the first rank the most
    Uneven,
    /// Any images, on each rank the same number
    Even,
    /// Images sorted by the digit that they show, as if each rank had a source of its own
    ByDigit,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            // mpirun ends the other ranks when one of them ends like this.
            std::process::exit(1)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = GroupOptions::default().timeout(Duration::from_secs(60));
    let group = Group::with_options(Mpi::world()?, options)?;
    ensure!(
        arguments.batch >= group.size() * (group.size() + 1) / 2,
        "--batch: too few images for {} ranks",
        group.size()
    );
    let gpu = Gpu::open()?;
    let mut accuracies = Vec::new();
    let start = Instant::now();
    for seed in 0..arguments.seeds {
        let mut trainer = Trainer::new(&gpu, &group, arguments, seed)?;
        let mut loss = 0.0;
        for _ in 0..arguments.epochs {
            loss = trainer.epoch()?.loss;
        }
        // Evaluation needs no other rank.
        if group.rank() == 0 {
            let accuracy = trainer.test()?.accuracy;
            let sizes = &trainer.sizes;
            println!(
                "seed {seed}  {} ranks with {sizes:?} images  loss {loss:.4}  test accuracy {accuracy:.2} %",
                group.size()
            );
            accuracies.push(accuracy);
        }
    }
    // Nobody leaves before all have come.
    group.sum(&mut [0.0])?;
    if group.rank() == 0 {
        let seconds = start.elapsed().as_secs_f64();
        println!("{seconds:.1} s on {}", gpu.adapter_name());
        match arguments.min_accuracy {
            Some(least) if !accuracies.iter().all(|&accuracy| accuracy >= least) => {
                bail!("less than {least} % of the test images were named right")
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many images of a batch each rank gets.
fn sizes(batch: usize, ranks: usize, shards: Shards) -> Vec<usize> {
    let weight = |rank: usize| match shards {
        Shards::Uneven => ranks - rank,
        Shards::Even | Shards::ByDigit => 1,
    };
    let all: usize = (0..ranks).map(weight).sum();
    let mut sizes: Vec<usize> = (0..ranks).map(|rank| batch * weight(rank) / all).collect();
    sizes[0] += batch - sizes.iter().sum::<usize>();
    sizes
}

struct Trainer {
    group: Group,
    random: Random,
    order: Vec<u32>,
    labels: Vec<u32>,
    shards: Shards,
    sizes: Vec<usize>,
    training: Batch,
    test_images: Vec<u32>,
    test: Batch,
}

impl Trainer {
    fn new(gpu: &Gpu, group: &Group, arguments: &Arguments, seed: u64) -> anyhow::Result<Self> {
        let settings = Settings {
            norm: WhichNorm::Batch,
            dtype: Dtype::F32,
            learning_rate: arguments.lr,
            batch: sizes(arguments.batch, group.size(), arguments.shards)[group.rank()],
            seed,
            ranks: Some(Ranks {
                group: group.clone(),
                synchronized: arguments.statistics == Statistics::Sync,
            }),
        };
        // All ranks draw the same weights and the same order.
        let mut random = Random::new(settings.seed);
        let digits = Digits::load()?;
        let data = DataSet::new(gpu, &digits);
        let network = Network::new(gpu, &settings, &mut random)?;
        let (own, whole) = (settings.batch, arguments.batch);
        let mut training = Batch::part(gpu, &data, &network, Mode::Train, own, whole)?;
        training.descend(&network, settings.learning_rate);
        let test = Batch::new(gpu, &data, &network, Mode::Eval, digits.test.len())?;
        Ok(Self {
            group: group.clone(),
            random,
            order: digits.training,
            labels: digits.labels,
            shards: arguments.shards,
            sizes: sizes(arguments.batch, group.size(), arguments.shards),
            training,
            test_images: digits.test,
            test,
        })
    }

    /// Learns from every training image once, in a new order, as `train_digits` does.
    fn epoch(&mut self) -> anyhow::Result<Score> {
        self.random.shuffle(&mut self.order);
        let whole: usize = self.sizes.iter().sum();
        let first: usize = self.sizes[..self.group.rank()].iter().sum();
        let own = first..first + self.sizes[self.group.rank()];
        let steps = self.order.len().div_ceil(whole);
        let mut images = self.order.iter().copied().cycle();
        for _ in 0..steps {
            let mut batch: Vec<u32> = images.by_ref().take(whole).collect();
            if self.shards == Shards::ByDigit {
                batch.sort_by_key(|&image| self.labels[image as usize]);
            }
            self.training.submit(&batch[own.clone()])?;
        }
        let score = self.training.take_score(steps)?;
        let mut means = [score.loss as f32, score.accuracy as f32];
        self.group.average(&mut means, own.len() as f64)?;
        let [loss, accuracy] = means.map(f64::from);
        Ok(Score { loss, accuracy })
    }

    /// How well the network does on images that it did not learn from.
    fn test(&self) -> anyhow::Result<Score> {
        self.test.submit(&self.test_images)?;
        self.test.take_score(1)
    }
}
