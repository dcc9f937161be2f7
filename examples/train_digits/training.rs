//! Training a network epoch by epoch, and testing it.

use wgpu_norm::Gpu;

use crate::batch::{Batch, DataSet, Score};
use crate::block::Mode;
use crate::data::Digits;
use crate::network::Network;
use crate::random::Random;
use crate::settings::Settings;

pub struct Trainer {
    random: Random,
    /// The training images, in the order of the latest epoch.
    order: Vec<u32>,
    batch: usize,
    training: Batch,
    test_images: Vec<u32>,
    test: Batch,
}

impl Trainer {
    pub fn new(gpu: &Gpu, digits: Digits, settings: &Settings) -> anyhow::Result<Self> {
        let mut random = Random::new(settings.seed);
        let data = DataSet::new(gpu, &digits);
        let network = Network::new(gpu, settings, &mut random)?;
        let mut training = Batch::new(gpu, &data, &network, Mode::Train, settings.batch)?;
        training.descend(&network, settings.learning_rate);
        let test = Batch::new(gpu, &data, &network, Mode::Eval, digits.test.len())?;
        Ok(Self {
            random,
            order: digits.training,
            batch: settings.batch,
            training,
            test_images: digits.test,
            test,
        })
    }

    /// Steps in an epoch.
    pub fn steps(&self) -> usize {
        self.order.len().div_ceil(self.batch)
    }

    /// Learns from every training image once, in a new order. All batches have the size that the
    /// program was made for, so the last is filled up with the images that came first: rather a few
    /// seen twice than a few left out.
    pub fn epoch(&mut self) -> anyhow::Result<Score> {
        self.random.shuffle(&mut self.order);
        let mut images = self.order.iter().copied().cycle();
        for _ in 0..self.steps() {
            let batch: Vec<u32> = images.by_ref().take(self.batch).collect();
            self.training.submit(&batch)?;
        }
        self.training.take_score(self.steps())
    }

    /// How well the network does on images that it did not learn from.
    pub fn test(&self) -> anyhow::Result<Score> {
        self.test.submit(&self.test_images)?;
        self.test.take_score(1)
    }
}
