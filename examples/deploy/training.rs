//! Epochs of training, and the images that they are of.

use crate::data::{Digits, PIXELS};
use crate::network::Network;
use crate::random::Random;

const BATCH: usize = 64;

/// Images of a set, with their labels.
#[derive(Clone)]
pub struct Images {
    pub pixels: Vec<f32>,
    pub labels: Vec<u32>,
}

impl Images {
    /// Those of a split of the digits.
    pub fn of(digits: &Digits, split: &[u32]) -> Self {
        let image = |&index: &u32| &digits.pixels[index as usize * PIXELS..][..PIXELS];
        Self {
            pixels: split.iter().flat_map(image).copied().collect(),
            labels: split
                .iter()
                .map(|&index| digits.labels[index as usize])
                .collect(),
        }
    }

    /// The same under another light: darker paper, and a third of the contrast.
    pub fn shifted(&self) -> Self {
        Self {
            pixels: self.pixels.iter().map(|pixel| 0.5 + 0.33 * pixel).collect(),
            labels: self.labels.clone(),
        }
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn image(&self, index: usize) -> &[f32] {
        &self.pixels[index * PIXELS..][..PIXELS]
    }
}

/// What decides the next epoch, beside the network.
pub struct Training {
    pub seed: u64,
    /// The epochs that there were.
    pub epochs: u64,
}

impl Training {
    /// Learns from every image once, in an order of its own.
    pub fn epoch(
        &mut self,
        network: &mut Network,
        images: &Images,
        learning_rate: f32,
    ) -> anyhow::Result<()> {
        self.epochs += 1;
        let mut order: Vec<usize> = (0..images.len()).collect();
        Random::new(self.seed.wrapping_add(self.epochs)).shuffle(&mut order);
        for batch in order.chunks(BATCH) {
            let pixels: Vec<f32> = batch
                .iter()
                .flat_map(|&index| images.image(index))
                .copied()
                .collect();
            let labels: Vec<u32> = batch.iter().map(|&index| images.labels[index]).collect();
            network.step(&pixels, &labels, learning_rate)?;
        }
        Ok(())
    }
}
